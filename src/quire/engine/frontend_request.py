"""What the front end knows of an unfinished request: its text, its tokens, how it ended.

Turns `SequenceDelta`s into text (detokenizer, stop strings) one sequence at a time, and builds
`RequestOutput`s on demand. Imports no torch; knows nothing of other requests.
"""

from collections.abc import Sequence

from quire.core.messages import AddRequest, SequenceDelta
from quire.core.outputs import (
    CompletionOutput,
    FinishReason,
    Logprob,
    PromptLogprobs,
    RequestMetrics,
    RequestOutput,
    SampleLogprobs,
)
from quire.core.plan import TokenLogprobs
from quire.core.sampling_params import SamplingParams
from quire.text.detokenizer import Detokenizer, NullDetokenizer, make_detokenizer
from quire.text.stops import StopMatcher
from quire.text.tokenizer import Tokenizer


class TrackedSequence:
    """One continuation. `absorb` is the hot path: once per sequence and step."""

    def __init__(self, index: int, detokenizer: Detokenizer, params: SamplingParams) -> None:
        self.index = index
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self.error: str | None = None
        self.embedding: list[float] | None = None
        self.num_preemptions = 0
        self.stopped_early = False  # by a stop string, which the engine does not know
        # One entry a token; made into `Logprob`s only when an output is built.
        self._logprobs: list[TokenLogprobs] | None = None if params.logprobs is None else []
        self.cumulative_logprob: float | None = None if params.logprobs is None else 0.0
        self._detokenizer = detokenizer
        self._stops = (
            StopMatcher(params.stop, params.include_stop_str_in_output) if params.stop else None
        )
        self._min_tokens = params.min_tokens
        self._include_stop = params.include_stop_str_in_output
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """Everything shown so far."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def absorb(self, delta: SequenceDelta) -> tuple[str, list[int]]:
        """Take what a step added: (new text to show, new token ids)."""
        token_ids, reason = delta.token_ids, delta.finish_reason
        if self._stops is None and reason is None:
            text = self._detokenizer.feed(token_ids)
        else:
            text, token_ids = self._absorb_carefully(delta)
        self.token_ids += token_ids
        if self._logprobs is not None and delta.logprobs:
            new = delta.logprobs[: len(token_ids)]
            self._logprobs += new
            self.cumulative_logprob = sum(
                (e.logprobs[0] for e in new), self.cumulative_logprob or 0.0
            )
        if text:
            self._parts.append(text)
        return text, token_ids

    def _absorb_carefully(self, delta: SequenceDelta) -> tuple[str, list[int]]:
        """With stop strings, or at the end."""
        token_ids, reason = delta.token_ids, delta.finish_reason
        # A stop token is not part of the text, unless asked for.
        ended_by_token = reason == "stop" and not self._include_stop
        shown_ids = token_ids[:-1] if ended_by_token else token_ids
        text = ""
        for count, token_id in enumerate(shown_ids, 1):
            text += self._show(self._detokenizer.feed((token_id,)), count)
            if self._stops is not None and self._stops.matched is not None:
                self._stop_at_string(reason)
                return text, token_ids[:count]
        if reason is not None:
            text += self._show(self._detokenizer.finish(), len(shown_ids))
            if self._stops is not None and self._stops.matched is not None:
                self._stop_at_string(reason)
                return text, token_ids
            if self._stops is not None:
                text += self._stops.finish()
            self.finish_reason = reason
            self.stop_reason = (
                "repetition_detected" if reason == "repetition" else delta.stop_token_id
            )
            self.error = delta.error
            self.embedding = delta.embedding
            self.num_preemptions = delta.num_preemptions
        return text, token_ids

    def _show(self, text: str, count: int) -> str:
        if self._stops is None:
            return text
        if len(self.token_ids) + count <= self._min_tokens:
            return self._stops.skip(text)
        return self._stops.feed(text)

    def _stop_at_string(self, reason: FinishReason | None) -> None:
        assert self._stops is not None
        self.finish_reason = "stop"
        self.stop_reason = self._stops.matched
        self.stopped_early = reason is None

    def logprobs(self, tokenizer: Tokenizer | None, start: int = 0) -> SampleLogprobs | None:
        """Log-probabilities from the start-th token on; None if not asked for."""
        if self._logprobs is None:
            return None
        return [position_logprobs(entry, tokenizer) for entry in self._logprobs[start:]]

    def output(self, tokenizer: Tokenizer | None) -> CompletionOutput:
        return CompletionOutput(
            self.index,
            self.text,
            list(self.token_ids),
            self.cumulative_logprob,
            self.logprobs(tokenizer),
            self.finish_reason,
            self.stop_reason,
            self.error,
        )


class TrackedRequest:
    """A request from submission to its last byte.

    `message` is what the engine was sent; with each sequence's `token_ids` as `delivered` it
    resumes the request in another engine.
    """

    def __init__(
        self, message: AddRequest, prompt_text: str | None, tokenizer: Tokenizer | None
    ) -> None:
        params = message.params
        self._tokenizer = tokenizer
        self.message = message
        self.prompt_text = prompt_text
        self.metrics = RequestMetrics(message.arrival_time)
        self.num_cached_tokens: int | None = None
        self.prompt_logprobs: PromptLogprobs | None = None
        self.num_unfinished = params.n
        self.sequences = [
            TrackedSequence(i, _detokenizer(params, message.prompt_token_ids, tokenizer), params)
            for i in range(params.n)
        ]

    @property
    def request_id(self) -> str:
        return self.message.request_id

    @property
    def finished(self) -> bool:
        return self.num_unfinished == 0

    def absorb_first(self, delta: SequenceDelta) -> None:
        """What comes with a sequence's first delta and concerns the request."""
        if delta.first_scheduled_time is not None and self.metrics.first_scheduled_time is None:
            self.metrics.first_scheduled_time = delta.first_scheduled_time
        if delta.num_cached_tokens is not None and self.num_cached_tokens is None:
            self.num_cached_tokens = delta.num_cached_tokens
        if delta.prompt_logprobs is not None and self.prompt_logprobs is None:
            self.prompt_logprobs = [
                None,
                *(position_logprobs(entry, self._tokenizer) for entry in delta.prompt_logprobs),
            ]

    def output(self) -> RequestOutput:
        return RequestOutput(
            self.message.request_id,
            self.prompt_text,
            self.message.prompt_token_ids,
            self.prompt_logprobs,
            [sequence.output(self._tokenizer) for sequence in self.sequences],
            self.finished,
            self.metrics,
            self.num_cached_tokens,
        )


def position_logprobs(entry: TokenLogprobs, tokenizer: Tokenizer | None) -> dict[int, Logprob]:
    """One position: the token itself first, then the top ones, best first."""
    decode = (lambda _: None) if tokenizer is None else tokenizer.token_text
    own, *top = entry.token_ids
    position = {own: Logprob(entry.logprobs[0], entry.rank, decode(own))}
    for rank, token_id in enumerate(top, 1):
        if token_id != own:
            position[token_id] = Logprob(entry.logprobs[rank], rank, decode(token_id))
    return position


def _detokenizer(
    params: SamplingParams, prompt_ids: Sequence[int], tokenizer: Tokenizer | None
) -> Detokenizer:
    if tokenizer is None or not params.detokenize:
        return NullDetokenizer()
    return make_detokenizer(
        tokenizer,
        prompt_ids,
        skip_special_tokens=params.skip_special_tokens,
        spaces_between_special_tokens=params.spaces_between_special_tokens,
    )
