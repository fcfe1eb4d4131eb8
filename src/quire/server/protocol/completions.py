"""POST /v1/completions."""

from pydantic import Field

from quire.server.protocol.common import INT64, GenerationBody


class CompletionRequest(GenerationBody):
    """A plain prompt, or several."""

    prompt: list[int] | list[list[int]] | str | list[str] | None = None
    max_tokens: int | None = Field(16, ge=0, lt=INT64)
    echo: bool | None = False
    logprobs: int | None = None
    suffix: str | None = None
