"""Fields that completions and chat share, and a body of completions."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

INT64 = 2**63


class Body(BaseModel):
    """Any request body. Unknown fields are allowed and land in `model_extra`."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class StreamOptions(Body):
    """What a stream carries besides deltas."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class RepetitionBody(Body):
    """What counts as repeating oneself; see `RepetitionDetection`."""

    max_pattern_size: int = 0
    min_pattern_size: int = 1
    min_count: int = 2


class GenerationBody(Body):
    """Sampling and bookkeeping. None means the server's default."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    user: str | None = None

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    logit_bias: dict[str, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None

    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    repetition_detection: RepetitionBody | None = None
    use_beam_search: bool | None = False
    length_penalty: float = 1.0  # of beam search only

    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = Field(None, ge=-1)
    truncation_side: str | None = None
    prompt_logprobs: int | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    stream_interval: int | None = Field(None, ge=1)

    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: str | dict[str, Any] | bool | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_json_object: bool | None = None
    guided_whitespace_pattern: str | None = None

    timeout: float | None = Field(None, gt=0)  # seconds; after them the request is given up
    priority: int = Field(0, ge=-(2**31), lt=2**31)  # lower runs first
    request_id: str | None = Field(None, max_length=256)
    session_id: str | None = None
    cache_salt: str | None = None

    @property
    def include_usage(self) -> bool:
        """A last chunk with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """The usage so far in every chunk."""
        return self.include_usage and bool(
            self.stream_options and self.stream_options.continuous_usage_stats
        )


class CompletionRequest(GenerationBody):
    """A plain prompt, or several."""

    prompt: list[int] | list[list[int]] | str | list[str] | None = None
    max_tokens: int | None = 16
    echo: bool | None = False
    logprobs: int | None = None
    suffix: str | None = None
