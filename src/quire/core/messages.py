"""What crosses between a front end and the engine: a closed set of messages.

msgspec structs, so the same objects serve in one process and, encoded, over a socket. The
engine knows token ids only; text, stop strings and templates are the front end's.

To the engine go `ToEngine`, and come back `FromEngine`, each decoded by its type alone
(`engine.wire`): a message of any other shape is not one.
"""

from dataclasses import dataclass

import msgspec

from quire.core.outputs import FinishReason
from quire.core.plan import TokenLogprobs
from quire.core.pooling_params import Pooling, PoolingParams
from quire.core.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts of a running engine, all resolved: nothing here is "auto"."""

    model: str  # as the user named it
    architecture: str
    vocab_size: int  # width of the logits; a tokenizer may know fewer ids
    max_model_len: int
    dtype: str
    device: str
    eos_token_ids: tuple[int, ...]
    generation_defaults: dict[str, float | int]  # generation_config.json's, renamed
    page_size: int
    num_pages: tuple[int, ...]  # of each KV group
    max_num_seqs: int
    max_num_batched_tokens: int
    enable_prefix_caching: bool
    seed: int
    weight_bytes: int = 0
    kv_bytes: int = 0
    kv_cache_dtype: str = "bfloat16"
    hidden_size: int = 0  # E, of the final hidden states and so of embeddings
    pooling: Pooling = "last"  # of a request that does not say


class AddRequest(msgspec.Struct, tag="add"):
    """Start `params.n` sequences on one prompt.

    `delivered` resumes a request after an engine restart: per sequence, the tokens the client
    already has. `seed` is resolved by the front end so that a restart draws the same noise.
    """

    request_id: str
    prompt_token_ids: list[int]
    params: SamplingParams
    seed: int
    stop_token_ids: list[int]  # the model's end-of-sequence ids (unless ignored) and the user's
    arrival_time: float
    max_tokens: int  # resolved: never more than max_model_len - len(prompt)
    priority: int = 0  # lower runs first under the priority policy
    cache_salt: str = ""  # separates prefix caches that must not share
    bad_words_ids: list[list[int]] = []
    delivered: list[list[int]] = []
    pooling: PoolingParams | None = None  # compute the prompt, sample nothing, give a vector


class AbortRequests(msgspec.Struct, tag="abort"):
    """Stop sequences and free their pages. `indices` empty means all of the request's."""

    request_id: str
    indices: list[int] = []


# A delta is sent once a token: an array on the wire, and nothing for the garbage collector to
# look at, as it cannot be part of a cycle.
class SequenceDelta(msgspec.Struct, array_like=True, gc=False):
    """What one step added to one sequence.

    `stop_token_id` is the id that ended it if that was a stop token the user named.
    `num_cached_tokens` and `prompt_logprobs` come with the first delta.
    """

    request_id: str
    index: int
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    stop_token_id: int | None = None
    error: str | None = None
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None
    num_cached_tokens: int | None = None
    first_scheduled_time: float | None = None
    embedding: list[float] | None = None  # of a request that pools, with its last delta
    num_preemptions: int = 0  # of the sequence, with its last delta


class EngineStats(msgspec.Struct):
    """The engine's state after a step, for metrics and progress bars."""

    num_running: int
    num_waiting: int
    kv_usage: float  # fraction of pages held by sequences, the fullest group's
    prefix_queries: int  # tokens looked up so far
    prefix_hits: int  # of which found
    num_preemptions: int
    num_steps: int
    num_invalid: int = 0  # messages an engine process dropped, as they were none of its set


class StepOutputs(msgspec.Struct, tag="outputs"):
    """Everything a step says, as one batch.

    `num_received` counts the requests the engine had been given when it was sent: a front end
    that has sent more knows that the engine is not idle, whatever `stats` says.
    """

    deltas: list[SequenceDelta]
    stats: EngineStats
    num_received: int = 0


class SequenceView(msgspec.Struct):
    """A sequence, as people are shown it."""

    request_id: str
    index: int
    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int
    num_pages: int


class PoolView(msgspec.Struct):
    """The pages of one KV group: each, or every `stride`-th of them, is a cell.

    0 is free; 1 is free, and still findable by its content; 2 + 2i is held by the i-th running
    sequence shown (or another, if there is no i-th), 3 + 2i by others beside it.
    """

    num_pages: int
    stride: int
    cells: list[int]


class EngineView(msgspec.Struct):
    """The engine at one moment, between two steps."""

    stats: EngineStats
    pools: list[PoolView]
    running: list[SequenceView]
    waiting: list[SequenceView]


# --- what only an engine in another process needs ---


class AskView(msgspec.Struct, tag="ask_view"):
    """Show the engine. Answered, between two steps, by the `ViewReply` of the same number."""

    number: int


class ViewReply(msgspec.Struct, tag="view"):
    """The answer."""

    number: int
    view: EngineView


class Stop(msgspec.Struct, tag="stop"):
    """End after the current step. Unfinished requests are dropped without a word."""


class Hello(msgspec.Struct, tag="hello"):
    """The engine's first message: the process runs, and now begins to load."""


class LoadProgress(msgspec.Struct, tag="progress"):
    """How far loading is. `fraction` is None where it cannot be told."""

    phase: str
    fraction: float | None = None


class Ready(msgspec.Struct, tag="ready"):
    """Loaded: requests are taken from now on."""

    info: ModelInfo


class EngineError(msgspec.Struct, tag="error"):
    """The engine's last message: why it ends. `kind` is the name of the error's class."""

    kind: str
    message: str


ToEngine = AddRequest | AbortRequests | AskView | Stop
FromEngine = StepOutputs | Hello | LoadProgress | Ready | EngineError | ViewReply
