"""What crosses between a front end and the engine: a closed set of messages.

msgspec structs, so the same objects serve in one process and, encoded, over a socket. The
engine knows token ids only; text, stop strings and templates are the front end's.
"""

import msgspec

from quire.core.outputs import FinishReason
from quire.core.plan import TokenLogprobs
from quire.core.sampling_params import SamplingParams


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


class AbortRequests(msgspec.Struct, tag="abort"):
    """Stop sequences and free their pages. `indices` empty means all of the request's."""

    request_id: str
    indices: list[int] = []


class SequenceDelta(msgspec.Struct):
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


class EngineStats(msgspec.Struct):
    """The engine's state after a step, for metrics and progress bars."""

    num_running: int
    num_waiting: int
    kv_usage: float  # fraction of pages held by sequences, the fullest group's
    prefix_queries: int  # tokens looked up so far
    prefix_hits: int  # of which found
    num_preemptions: int
    num_steps: int


class StepOutputs(msgspec.Struct, tag="outputs"):
    """Everything a step says, as one batch."""

    deltas: list[SequenceDelta]
    stats: EngineStats
