"""Beam search over HTTP: many one-token jobs, and one answer of what they came to."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request

from quire.beam_search import beam_search, one_token
from quire.core.errors import RequestError
from quire.core.messages import SequenceDelta
from quire.core.outputs import BeamSearchOutput, BeamSearchSequence, FinishReason, Logprob
from quire.core.plan import TokenLogprobs
from quire.core.sampling_params import BeamSearchParams, SamplingParams
from quire.engine.frontend_prompt import Prompt
from quire.engine.frontend_request import TrackedRequest
from quire.server.job import Job
from quire.server.protocol.common import GenerationBody
from quire.server.state import ServerState
from quire.text.tokenizer import Tokenizer


async def search_beams(
    state: ServerState,
    http: Request,
    body: GenerationBody,
    prompts: Sequence[Prompt],
    params: SamplingParams,
    request_id: str,
) -> list[TrackedRequest]:
    """The `n` likeliest continuations of each prompt, as requests that have finished.

    Args:
        params: of the answer; what a search has no use for is refused.

    Raises:
        RequestError: a parameter that cannot be together with use_beam_search.
    """
    width = body.n or 1
    _check(body, params, width, state.engine_config.model.max_logprobs)
    tracker = state.ready().dispatcher.tracker
    answers = [
        tracker.prepare(prompt, params, request_id=f"{request_id}-{index}")
        for index, prompt in enumerate(prompts)
    ]
    beams = BeamSearchParams(
        beam_width=width,
        max_tokens=max(answer.message.max_tokens for answer in answers),
        ignore_eos=params.ignore_eos,
        temperature=params.temperature,
        length_penalty=body.length_penalty,
    )
    search = beam_search(
        [answer.message.prompt_token_ids for answer in answers],
        beams,
        decode=None,
        eos_token_ids=frozenset(tracker.eos_token_ids),
        max_model_len=state.ready().info.max_model_len,
    )
    loop = asyncio.get_running_loop()
    deadline = None if body.timeout is None else loop.time() + body.timeout
    salt = body.cache_salt or ""
    asked = next(search)
    while True:
        job = await Job.open(
            state,
            http,
            [Prompt(None, ids, salt) for ids in asked],
            one_token(beams),
            request_id=request_id,
            priority=body.priority,
            streaming=False,
            timeout=None if deadline is None else max(0.0, deadline - loop.time()),
        )
        try:
            outputs = [request.output() for request in await job.finished()]
        finally:
            job.close()
        try:
            asked = search.send(outputs)
        except StopIteration as done:
            found: list[BeamSearchOutput] = done.value
            tokenizer = job.serving.tokenizer
            return [_answer(a, best.sequences, tokenizer) for a, best in zip(answers, found)]


def _check(body: GenerationBody, params: SamplingParams, width: int, max_logprobs: int) -> None:
    for name, given in (
        ("stream", body.stream),
        ("stop", params.stop),
        ("prompt_logprobs", params.prompt_logprobs is not None),
        ("structured_outputs", params.structured_outputs),
        ("min_tokens", params.min_tokens),
        ("repetition_detection", params.repetition_detection),
    ):
        if given:
            raise RequestError(f"use_beam_search excludes {name}; leave one of them out", name)
    if 0 <= max_logprobs < 2 * width:
        raise RequestError(
            f"use_beam_search with n={width} needs {2 * width} log-probabilities a token;"
            f" ask for at most {max_logprobs // 2} beams, or raise --max-logprobs",
            "n",
            width,
        )


def _answer(
    answer: TrackedRequest, beams: Sequence[BeamSearchSequence], tokenizer: Tokenizer
) -> TrackedRequest:
    """A prepared request as if it had generated the beams."""
    message = answer.message
    message.params.n = len(beams)
    request = TrackedRequest(message, answer.prompt_text, tokenizer)
    for sequence, beam in zip(request.sequences, beams):
        token_ids = beam.tokens[len(message.prompt_token_ids) :]
        if isinstance(beam.stop_reason, int):
            token_ids = [*token_ids, beam.stop_reason]
        positions = [_position(i, entries) for i, entries in zip(token_ids, beam.logprobs)]
        reason: FinishReason = "stop" if beam.finish_reason == "stop" else "length"
        sequence.absorb(
            SequenceDelta(message.request_id, sequence.index, token_ids, reason, logprobs=positions)
        )
    request.num_unfinished = 0
    return request


def _position(token_id: int, entries: dict[int, Logprob]) -> TokenLogprobs:
    """Log-probabilities at a token that a beam took, the others best first."""
    others = sorted(entries, key=lambda i: -entries[i].logprob)
    ids = [token_id, *others]
    return TokenLogprobs(ids, [entries[i].logprob for i in ids], others.index(token_id) + 1)
