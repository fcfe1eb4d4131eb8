"""`SamplingParams`: how one request wants its tokens chosen. Field names are vLLM's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from quire.core.errors import RequestError
from quire.core.structured_outputs import StructuredOutputsParams

# Limits that keep one request from costing more than it should; the same as vLLM's.
MAX_N = 16384
MAX_STOP_STRINGS = 64
MAX_BAD_WORDS = 128
MAX_PATTERN_SIZE = 1024  # tokens; every size is looked for after every token
MIN_TEMPERATURE = 1e-2
LOGIT_BIAS_LIMIT = 100.0

ANY = 2**31 - 1
_RANGES: tuple[tuple[str, float, float, bool], ...] = (  # name, from, to, whole numbers only
    ("n", 1, MAX_N, True),
    ("presence_penalty", -2.0, 2.0, False),
    ("frequency_penalty", -2.0, 2.0, False),
    ("repetition_penalty", 0.0, float("inf"), False),
    ("temperature", 0.0, float("inf"), False),
    ("top_p", -ANY, ANY, False),  # (0, 1], see below
    ("top_k", -1, ANY, True),
    ("min_p", 0.0, 1.0, False),
    ("seed", -(2**63), 2**63 - 1, True),
    ("max_tokens", 1, ANY, True),
    ("min_tokens", 0, ANY, True),
    ("logprobs", -1, ANY, True),
    ("prompt_logprobs", -1, ANY, True),
    ("truncate_prompt_tokens", -1, ANY, True),
)
# What a model may bring defaults of.
WITH_DEFAULTS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_MAY_BE_NONE = ("seed", "max_tokens", "logprobs", "prompt_logprobs", "truncate_prompt_tokens")

# (token ids so far, logits [V]) -> logits [V]; or with the prompt's ids first.
LogitsProcessor = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepetitionDetection:
    """Ends a sequence that ends in `min_count` copies of one pattern of
    [min_pattern_size, max_pattern_size] tokens; 0 as `max_pattern_size` is off."""

    max_pattern_size: int = 0
    min_pattern_size: int = 1
    min_count: int = 2

    def __post_init__(self) -> None:
        in_range("max_pattern_size", self.max_pattern_size, 0, MAX_PATTERN_SIZE, integer=True)
        in_range("min_pattern_size", self.min_pattern_size, 0, ANY, integer=True)
        in_range("min_count", self.min_count, 2, ANY, integer=True)
        if 0 < self.max_pattern_size < self.min_pattern_size:
            rule = f"must be at most max_pattern_size={self.max_pattern_size}"
            refuse("min_pattern_size", self.min_pattern_size, rule)

    @property
    def reach(self) -> int:
        """How many of the last tokens matter."""
        return max(1, self.max_pattern_size * self.min_count)

    def found_in(self, token_ids: Sequence[int]) -> bool:
        """Whether these end in such a repetition."""
        for size in range(max(1, self.min_pattern_size), self.max_pattern_size + 1):
            length = size * self.min_count
            if length > len(token_ids):
                return False
            if token_ids[-1] != token_ids[-1 - size]:
                continue
            # Each token is the one `size` before it, back to the first copy's end.
            tail = token_ids[-length:]
            if tail[size:] == tail[:-size]:
                return True
        return False


@dataclass(slots=True, kw_only=True)
class SamplingParams:
    """Decoding parameters of one request.

    Args:
        n: number of sequences to generate; they share the prompt's pages.
        presence_penalty: [-2, 2], subtracted once from tokens already in the output.
        frequency_penalty: [-2, 2], subtracted per occurrence in the output.
        repetition_penalty: > 0, divides (positive) or multiplies (negative) the logits of
            tokens in the prompt or the output; 1 is off.
        temperature: 0 is greedy.
        top_p: (0, 1], keep the smallest set of tokens whose probability reaches it.
        top_k: keep the k most likely; 0 or -1 is off.
        min_p: [0, 1], drop tokens below this fraction of the most likely one's probability.
        seed: makes the sampled tokens a function of the request alone.
        stop: string or strings that end the text; cut off unless `include_stop_str_in_output`.
        stop_token_ids: tokens that end the sequence, besides the model's own.
        ignore_eos: go on after the model's end-of-sequence token.
        max_tokens: None means as many as `max_model_len` allows.
        min_tokens: no end-of-sequence or stop token before that many.
        logprobs: log-probabilities of that many top tokens at each generated position
            (and of the sampled one); -1 for the whole vocabulary.
        prompt_logprobs: the same for the prompt's tokens.
        detokenize: False returns ids only, with empty text.
        logit_bias: token id -> added to its logit, clamped to ±100.
        allowed_token_ids: only these may be sampled.
        bad_words: words (token sequences) that must not appear.
        repetition_detection: ends a sequence that repeats itself, as "repetition".
        structured_outputs: what the text must look like: a JSON schema, a regex, a grammar, ...
        truncate_prompt_tokens: keep only the last k prompt tokens; -1 keeps `max_model_len`.
        logits_processors: offline only; called with (output ids, logits [V]) or
            (prompt ids, output ids, logits [V]) and returning logits.

    Raises:
        RequestError: a value is out of its range; the message names both.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    truncate_prompt_tokens: int | None = None
    repetition_detection: RepetitionDetection | None = None
    structured_outputs: StructuredOutputsParams | None = None
    logits_processors: Sequence[LogitsProcessor] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            self.stop = [self.stop]
        self.stop = list(self.stop or [])
        self.stop_token_ids = list(self.stop_token_ids or [])
        self.bad_words = list(self.bad_words or [])
        if self.allowed_token_ids is not None:
            self.allowed_token_ids = list(self.allowed_token_ids)
        if self.top_k == -1:
            self.top_k = 0
        # vLLM takes True for "the sampled token's own log-probability".
        if self.logprobs is True:
            self.logprobs = 1
        if self.prompt_logprobs is True:
            self.prompt_logprobs = 1
        if self.seed == -1:
            self.seed = None
        self.validate()

    def validate(self) -> None:
        """Check every range. Called at construction and again when the request is submitted,
        because the fields may be assigned to in between."""
        for name, low, high, integer in _RANGES:
            value = getattr(self, name)
            if value is not None or name not in _MAY_BE_NONE:
                in_range(name, value, low, high, integer=integer)
        if self.repetition_penalty <= 0:
            refuse("repetition_penalty", self.repetition_penalty, "must be greater than 0")
        if not 0 < self.top_p <= 1:
            refuse("top_p", self.top_p, "must be in (0, 1]")
        if 0.0 < self.temperature < MIN_TEMPERATURE:
            self.temperature = MIN_TEMPERATURE
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            refuse("min_tokens", self.min_tokens, f"must be at most max_tokens={self.max_tokens}")
        if self.truncate_prompt_tokens == 0:
            refuse("truncate_prompt_tokens", 0, "must be -1 or at least 1")
        if self.temperature == 0.0 and self.n > 1:
            refuse("n", self.n, "must be 1 with temperature=0: greedy sequences are all alike")
        assert isinstance(self.stop, list)
        _check_words("stop", self.stop, MAX_STOP_STRINGS)
        _check_words("bad_words", self.bad_words or [], MAX_BAD_WORDS)
        if self.stop and not self.detokenize:
            refuse("stop", self.stop, "needs detokenize=True; use stop_token_ids with token ids")
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            refuse("allowed_token_ids", [], "must not be empty; leave it out to allow every token")
        if self.logit_bias:
            try:
                self.logit_bias = {
                    int(token): max(-LOGIT_BIAS_LIMIT, min(LOGIT_BIAS_LIMIT, float(bias)))
                    for token, bias in self.logit_bias.items()
                }
            except (TypeError, ValueError):
                refuse("logit_bias", self.logit_bias, "must map token ids to numbers")

        wanted = self.structured_outputs
        if wanted is not None and not isinstance(wanted, StructuredOutputsParams):
            refuse("structured_outputs", wanted, "must be a StructuredOutputsParams")

    @property
    def greedy(self) -> bool:
        """No randomness: the most likely token is taken."""
        return self.temperature == 0.0

    def clone(self) -> "SamplingParams":
        """A copy that shares nothing mutable, except the logits processors themselves."""
        return replace(self)  # which copies all lists, as any construction does


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamSearchParams:
    """Parameters of `LLM.beam_search`; scores are sum(logprob) / length ** length_penalty."""

    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0
    include_stop_str_in_output: bool = False

    def __post_init__(self) -> None:
        in_range("beam_width", self.beam_width, 1, 1024, integer=True)
        in_range("max_tokens", self.max_tokens, 1, ANY, integer=True)
        in_range("temperature", self.temperature, 0.0, float("inf"))


def _check_words(name: str, words: list[str], most: int) -> None:
    if len(words) > most:
        refuse(name, len(words), f"holds more than {most} strings")
    for word in words:
        if not isinstance(word, str) or not word:
            refuse(name, word, "must hold non-empty strings")


def in_range(name: str, value: object, low: float, high: float, *, integer: bool = False) -> None:
    """Refuse what is no number, no whole one, or outside [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        refuse(name, value, "must be a number")
    if integer and not isinstance(value, int):
        refuse(name, value, "must be an integer")
    if not low <= value <= high:
        if high < ANY:
            bound = f"must be in [{low:g}, {high:g}]"
        elif value < low:
            bound = f"must be at least {low if integer else format(low, 'g')}"
        else:
            bound = f"must be at most {high}"
        refuse(name, value, bound)


def refuse(name: str, value: object, rule: str) -> NoReturn:
    raise RequestError(f"{name} {rule}, got {value!r}", name, value)
