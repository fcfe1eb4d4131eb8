"""POST /v1/completions."""

from quire.server.protocol.common import GenerationBody


class CompletionRequest(GenerationBody):
    """A plain prompt, or several."""

    prompt: list[int] | list[list[int]] | str | list[str] | None = None
    max_tokens: int | None = 16
    echo: bool | None = False
    logprobs: int | None = None
    suffix: str | None = None
