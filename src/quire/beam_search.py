"""Beam search on top of one-token requests; the prefix cache keeps each step to one token.

The rules are vLLM's: 2 * beam_width candidates per beam, a beam that ends leaves the search, the
score is the sum of log-probabilities over length ** length_penalty, prompt included in the length.
"""

from collections.abc import Callable, Generator, Sequence

from quire.core.outputs import BeamSearchOutput, BeamSearchSequence, RequestOutput
from quire.core.sampling_params import BeamSearchParams, SamplingParams

# Yields the token ids of prompts that need one more token each, takes one output each.
Search = Generator[list[list[int]], list[RequestOutput], list[BeamSearchOutput]]


class _Search:
    """One prompt's beams."""

    def __init__(self, prompt_ids: list[int], room: int) -> None:
        self.beams = [BeamSearchSequence(list(prompt_ids), [])]
        self.completed: list[BeamSearchSequence] = []
        self.room = room  # tokens until max_model_len


def one_token(params: BeamSearchParams) -> SamplingParams:
    """What each of a search's prompts is to be sampled with."""
    return SamplingParams(
        max_tokens=1,
        temperature=params.temperature,
        logprobs=2 * params.beam_width,
        ignore_eos=True,
        detokenize=False,
    )


def beam_search(
    prompts: Sequence[list[int]],
    params: BeamSearchParams,
    *,
    decode: Callable[[list[int]], str] | None,
    eos_token_ids: frozenset[int],
    max_model_len: int,
    on_finished: Callable[[int, int], None] = lambda prompt, output: None,
) -> Search:
    """The best `beam_width` continuations of each prompt, best first.

    Args:
        decode: ids to text; None leaves texts out.
        eos_token_ids: ids that end a beam, unless `params.ignore_eos`.
        on_finished: called with (prompt tokens, output tokens) of each search that is done.
    """
    searches = [_Search(ids, max_model_len - len(ids)) for ids in prompts]
    ends: frozenset[int] = frozenset() if params.ignore_eos else eos_token_ids
    for step in range(params.max_tokens):
        live = [s for s in searches if s.beams and step < s.room]
        if not live:
            break
        outputs = iter((yield [beam.tokens for search in live for beam in search.beams]))
        for search in live:
            answers = [next(outputs) for _ in search.beams]
            _advance(search, answers, params, ends)
    results = []
    for search, prompt_ids in zip(searches, prompts):
        results.append(_best(search, params, ends, decode))
        longest = max(len(s.tokens) for s in results[-1].sequences)
        on_finished(len(prompt_ids), longest - len(prompt_ids))
    return results


def _advance(
    search: _Search, answers: list[RequestOutput], params: BeamSearchParams, ends: frozenset[int]
) -> None:
    """Extend every beam by its candidates and keep the best that have not ended."""
    grown: list[BeamSearchSequence] = []
    for beam, answer in zip(search.beams, answers):
        output = answer.outputs[0]
        if not output.logprobs:  # the request failed: this beam ends as it is
            beam.finish_reason = output.finish_reason
            search.completed.append(beam)
            continue
        position = output.logprobs[0]
        for token_id, logprob in position.items():
            ended = token_id in ends
            shown = not ended or params.include_stop_str_in_output
            candidate = BeamSearchSequence(
                [*beam.tokens, token_id] if shown else beam.tokens,
                [*beam.logprobs, position],
                beam.cum_logprob + logprob.logprob,
                finish_reason="stop" if ended else None,
                stop_reason=token_id if ended else None,
            )
            (search.completed if ended else grown).append(candidate)
    grown.sort(key=lambda beam: _score(beam, params, ends), reverse=True)
    search.beams = grown[: params.beam_width]


def _best(
    search: _Search,
    params: BeamSearchParams,
    ends: frozenset[int],
    decode: Callable[[list[int]], str] | None,
) -> BeamSearchOutput:
    for beam in search.beams:
        beam.finish_reason = "length"
    candidates = [*search.completed, *search.beams]
    candidates.sort(key=lambda beam: _score(beam, params, ends), reverse=True)
    best = candidates[: params.beam_width]
    for beam in best:
        beam.text = decode(beam.tokens) if decode is not None else None
    return BeamSearchOutput(best)


def _score(beam: BeamSearchSequence, params: BeamSearchParams, ends: frozenset[int]) -> float:
    length = len(beam.tokens) - (beam.tokens[-1] in ends)
    return beam.cum_logprob / max(length, 1) ** params.length_penalty
