"""RequestTracker: user requests into `AddRequest`s, `SequenceDelta`s into outputs.

Owns every request until its last byte is delivered: prompt, parameters, seed, text so far. The
engine behind it knows token ids only. Imports no torch, starts no thread; one tracker belongs to
one thread. Used by `LLM` and by the server.
"""

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass

from quire.core.errors import RequestError
from quire.core.messages import AbortRequests, AddRequest, ModelInfo, SequenceDelta
from quire.core.pooling_params import PoolingParams
from quire.core.sampling_params import SamplingParams, refuse
from quire.engine.frontend_prompt import Prompt, PromptInput, PromptReader, parse_prompt
from quire.engine.frontend_request import TrackedRequest, TrackedSequence
from quire.engine.tokenizer import special_token_ids
from quire.sampling.check import MAX_LOGPROBS, check_params
from quire.scheduler.sequence import sequence_seed
from quire.structured.check import GrammarChecker
from quire.text.tokenizer import Tokenizer


@dataclass(slots=True)
class Update:
    """What a step added to one sequence. `text` may be empty: half a character, or held back
    because a stop string may begin there."""

    request: TrackedRequest
    sequence: TrackedSequence
    text: str
    token_ids: list[int]


@dataclass(slots=True)
class Processed:
    """Updates in the engine's order; `aborts` must be sent to the engine."""

    updates: list[Update]
    aborts: list[AbortRequests]


class RequestTracker:
    """The unfinished requests of one engine.

    Args:
        tokenizer: None with `skip_tokenizer_init`: ids in, ids out.
        max_logprobs: most log-probabilities a request may ask for; -1 is no limit.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, info: ModelInfo, max_logprobs: int = MAX_LOGPROBS
    ) -> None:
        self._tokenizer = tokenizer
        self._info = info
        self._max_logprobs = max_logprobs
        self._reader = PromptReader(tokenizer, info.vocab_size, info.max_model_len)
        self._requests: dict[str, TrackedRequest] = {}
        self._num_prepared = 0
        special = {} if tokenizer is None else special_token_ids(tokenizer)
        self.grammars = GrammarChecker(special, info.vocab_size)
        own_eos = tokenizer.eos_token_id if tokenizer is not None else None
        eos = (*info.eos_token_ids, *(() if own_eos is None else (own_eos,)))
        self.eos_token_ids = tuple(i for i in dict.fromkeys(eos) if i < info.vocab_size)

    def default_params(self) -> SamplingParams:
        """What a request without parameters gets: the model's generation defaults."""
        return SamplingParams(**self._info.generation_defaults)  # type: ignore[arg-type]

    # --- requests come ---

    def prepare(
        self,
        prompt: PromptInput | Prompt,
        params: SamplingParams | PoolingParams | None = None,
        *,
        request_id: str,
        priority: int = 0,
        max_logprobs: int | None = None,
    ) -> TrackedRequest:
        """Check a request and resolve all of it; nothing is registered yet. With `PoolingParams` it
        is for a vector, its sequence's `embedding`.

        Raises:
            RequestError: anything the engine could not do, naming the value and the limit.
        """
        pooling = None
        if isinstance(params, PoolingParams):
            pooling = self._resolved(params)
            params = SamplingParams(detokenize=False, ignore_eos=True)
            params.truncate_prompt_tokens = pooling.truncate_prompt_tokens
        else:
            params = self.default_params() if params is None else params.clone()
        self._check_text_params(params)
        bad_words_ids = self._bad_words_ids(params)
        limit = self._max_logprobs if max_logprobs is None else max_logprobs
        check_params(params, self._info.vocab_size, limit, bad_words_ids)
        if params.structured_outputs is not None:
            self.grammars.check(params.structured_outputs)
        parsed = parse_prompt(prompt)
        generates = int(pooling is None)
        token_ids = self._reader.encode(parsed, params.truncate_prompt_tokens, generates)
        room = (self._info.max_model_len - len(token_ids)) * generates
        stop_ids = () if params.ignore_eos else self.eos_token_ids
        message = AddRequest(
            request_id=request_id,
            prompt_token_ids=token_ids,
            params=params,
            seed=self._seed(params) if generates else 0,
            stop_token_ids=list(dict.fromkeys((*stop_ids, *(params.stop_token_ids or ())))),
            arrival_time=time.monotonic(),
            max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
            priority=priority,
            cache_salt=parsed.cache_salt,
            bad_words_ids=bad_words_ids,
            pooling=pooling,
        )
        return TrackedRequest(message, parsed.text, self._tokenizer)

    def _resolved(self, params: PoolingParams) -> PoolingParams:
        hidden_size = self._info.hidden_size
        if params.dimensions is not None and params.dimensions > hidden_size:
            refuse("dimensions", params.dimensions, f"must be at most the model's {hidden_size}")
        return dataclasses.replace(params, pooling=params.pooling or self._info.pooling)

    def start(self, request: TrackedRequest) -> AddRequest:
        """Register a prepared request; the message is for the engine.

        Raises:
            RequestError: its id is in use.
        """
        if request.request_id in self._requests:
            raise RequestError(
                f"request_id '{request.request_id}' is in use; wait for it or choose another",
                "request_id",
            )
        self._requests[request.request_id] = request
        return request.message

    def abort(self, request_id: str) -> AbortRequests | None:
        """Forget a request; the message is for the engine. None if it is not unfinished."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return None
        for sequence in request.sequences:
            if sequence.finish_reason is None:
                sequence.finish_reason = "abort"
        request.num_unfinished = 0
        return AbortRequests(request_id)

    # --- steps come back ---

    def process(self, deltas: Iterable[SequenceDelta]) -> Processed:
        """Take a step's deltas. Those of unknown requests and finished sequences are late: the
        engine had not heard of their end yet."""
        now = time.monotonic()
        updates: list[Update] = []
        aborts: list[AbortRequests] = []
        requests = self._requests
        for delta in deltas:
            request = requests.get(delta.request_id)
            if request is None:
                continue
            sequence = request.sequences[delta.index]
            if sequence.finish_reason is not None:
                continue
            metrics = request.metrics
            if metrics.first_token_time is None and delta.token_ids:
                metrics.first_token_time = now
            metrics.last_token_time = now
            if delta.num_cached_tokens is not None or delta.prompt_logprobs is not None:
                request.absorb_first(delta)
            text, token_ids = sequence.absorb(delta)
            updates.append(Update(request, sequence, text, token_ids))
            if sequence.finish_reason is not None:
                if sequence.stopped_early:
                    aborts.append(AbortRequests(delta.request_id, [delta.index]))
                request.num_unfinished -= 1
                if request.finished:
                    metrics.finished_time = now
                    del requests[delta.request_id]
        return Processed(updates, aborts)

    @property
    def num_unfinished(self) -> int:
        return len(self._requests)

    def unfinished(self) -> list[TrackedRequest]:
        """In the order they were started."""
        return list(self._requests.values())

    def resume(self) -> list[AddRequest | AbortRequests]:
        """What a fresh engine must be told so that every unfinished request goes on where its
        client's copy ends."""
        messages: list[AddRequest | AbortRequests] = []
        for request in self._requests.values():
            request.message.delivered = [list(s.token_ids) for s in request.sequences]
            messages.append(request.message)
            ended = [s.index for s in request.sequences if s.finish_reason is not None]
            if ended:
                messages.append(AbortRequests(request.request_id, ended))
        return messages

    # --- details of a request ---

    def _seed(self, params: SamplingParams) -> int:
        """The request's own seed, or one drawn from the engine's seed and a counter."""
        self._num_prepared += 1
        if params.seed is not None:
            return params.seed
        return sequence_seed(self._info.seed, self._num_prepared)

    def _check_text_params(self, params: SamplingParams) -> None:
        if self._tokenizer is None:
            for name in ("stop", "bad_words", "structured_outputs"):
                if getattr(params, name):
                    raise RequestError(
                        f"{name} needs a tokenizer, and skip_tokenizer_init=True left it out", name
                    )

    def _bad_words_ids(self, params: SamplingParams) -> list[list[int]]:
        """Each word as the tokens it has at the start of a text and after a space."""
        if not params.bad_words:
            return []
        assert self._tokenizer is not None
        words: list[list[int]] = []
        for word in params.bad_words:
            for text in (word.lstrip(), " " + word.lstrip()):
                ids = self._tokenizer.encode(text, add_special_tokens=False)
                if ids and ids not in words:
                    words.append(ids)
        return words
