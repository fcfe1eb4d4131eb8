"""POST /v1/completions, and a completion in OpenAI's shape: whole, or the chunks of its stream."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from quire.core.errors import RequestError
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend import Update
from quire.engine.frontend_prompt import Prompt, is_token_ids
from quire.engine.frontend_request import TrackedRequest, TrackedSequence
from quire.server.answer import AnswerFacts, chunk_events, count_body, respond
from quire.server.beams import search_beams
from quire.server.errors import refused
from quire.server.job import Job
from quire.server.logprobs import CompletionLogprobs, prompt_logprobs_body
from quire.server.params import check_body, check_max_tokens, sampling_params
from quire.server.prompts import Truncation, encode_text, offload, take_ids
from quire.server.protocol.common import CompletionRequest
from quire.server.replies import encode_json, json_response, request_id_headers
from quire.server.routes import post, state_of
from quire.server.sse import event
from quire.server.state import Serving
from quire.server.structured import check_grammar, structured_outputs

router = APIRouter()


@post(router, "/v1/completions", "OpenAI")
async def create_completion(body: CompletionRequest, http: Request) -> Response:
    """Continue one or several prompts."""
    state = state_of(http)
    serving = state.ready(body.model)
    each = _each_prompt(body)
    check_body(body, state.config, len(each))
    if not each:
        raise RequestError("prompt is missing or empty; give a text or token ids", "prompt")
    if body.suffix:
        raise refused("suffix")
    params = _params(body, serving)
    await check_grammar(serving, params.structured_outputs)
    prompts = await offload(
        sum(map(len, each)), lambda: [_encode(serving, body, prompt) for prompt in each]
    )
    facts = AnswerFacts("cmpl", state, serving, http, body)
    if body.use_beam_search:
        found = await search_beams(state, http, body, prompts, params, facts.id)
        return json_response(CompletionAnswer(found, body, facts).whole(), request_id_headers(http))
    job = await Job.open(
        state,
        http,
        prompts,
        params,
        request_id=facts.id,
        priority=body.priority,
        streaming=bool(body.stream),
        timeout=body.timeout,
    )
    answer = CompletionAnswer(job.requests, body, facts)
    return await respond(job, http, body.stream, lambda: answer.events(job), answer.whole)


def _each_prompt(body: CompletionRequest) -> list[str | list[int]]:
    prompt = body.prompt
    if prompt is None or prompt == []:
        return []
    if isinstance(prompt, str) or is_token_ids(prompt):
        return [prompt]  # type: ignore[list-item]
    return list(prompt)  # type: ignore[arg-type]


def _encode(serving: Serving, body: CompletionRequest, prompt: str | list[int]) -> Prompt:
    truncation = Truncation(body.truncate_prompt_tokens, body.truncation_side)
    salt = body.cache_salt or ""
    if isinstance(prompt, str):
        special = body.add_special_tokens is not False
        return encode_text(serving, prompt, truncation, cache_salt=salt, add_special_tokens=special)
    return take_ids(serving, prompt, truncation, salt)


def _params(body: CompletionRequest, serving: Serving) -> SamplingParams:
    prompt_logprobs = body.prompt_logprobs
    if prompt_logprobs is None and body.echo:
        prompt_logprobs = body.logprobs
    if body.logprobs is not None and body.logprobs < -1:
        raise RequestError("logprobs must be at least 0, or -1 for all", "logprobs", body.logprobs)
    max_tokens = body.max_tokens
    if max_tokens == 0 and not body.echo:
        raise RequestError("max_tokens must be at least 1; 0 needs echo=true", "max_tokens", 0)
    check_max_tokens("max_tokens", max_tokens, serving.info.max_model_len)
    return sampling_params(
        body,
        serving.info.generation_defaults,
        max_tokens=1 if max_tokens == 0 else max_tokens,  # the engine always makes one
        logprobs=body.logprobs,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=structured_outputs(body),
    )


@dataclass(slots=True)
class _Choice:
    """One choice so far."""

    index: int
    request: TrackedRequest
    sequence: TrackedSequence
    logprobs: CompletionLogprobs | None
    plain_head: bytes  # a chunk with nothing but text, up to that
    num_sent: int = 0  # tokens
    started: bool = False


class CompletionAnswer:
    """One answer; `whole` or `events`, once."""

    def __init__(
        self, requests: Sequence[TrackedRequest], body: CompletionRequest, facts: AnswerFacts
    ) -> None:
        self._requests = requests
        self._facts = facts
        self._echo = bool(body.echo)
        self._only_echo = self._echo and body.max_tokens == 0
        self._num_top = body.logprobs
        self._prompt_logprobs = body.prompt_logprobs is not None
        self._head = facts.head("text_completion")
        # Whether chunks say nothing but text.
        self._plain = not (
            self._echo
            or facts.return_token_ids
            or facts.continuous_usage
            or self._num_top is not None
        )
        head = b"data: " + encode_json(self._head)[:-1] + b',"choices":[{"index":'
        every = [(request, sequence) for request in requests for sequence in request.sequences]
        self._choices = [
            _Choice(index, request, sequence, self._writer(), head + b'%d,"text":' % index)
            for index, (request, sequence) in enumerate(every)
        ]

    def _writer(self) -> CompletionLogprobs | None:
        if self._num_top is None:
            return None
        return CompletionLogprobs(self._facts.writer, self._num_top)

    # --- whole ---

    def whole(self) -> dict[str, Any]:
        """The body, once every request has finished."""
        choices = [self._whole_choice(choice) for choice in self._choices]
        return self._facts.whole("text_completion", choices, self._requests)

    def _whole_choice(self, choice: _Choice) -> dict[str, Any]:
        body = self._choice(choice, choice.sequence.text, choice.sequence.token_ids)
        positions = choice.request.prompt_logprobs if self._prompt_logprobs else None
        return body | {"prompt_logprobs": prompt_logprobs_body(positions), "routed_experts": None}

    # --- streamed ---

    def events(self, job: Job) -> AsyncIterator[bytes]:
        return chunk_events(job, self._facts, self._head, self._chunk)

    def _chunk(self, index: int, update: Update) -> bytes:
        choice, reason = self._choices[index], update.sequence.finish_reason
        if self._plain and reason is None:
            if not update.text:
                return b""
            return choice.plain_head + encode_json(update.text) + _PLAIN_TAIL
        facts = self._facts
        choices = [self._choice(choice, update.text, update.token_ids)]
        body = {**self._head, "choices": choices}
        if facts.continuous_usage:
            body["usage"] = count_body(
                len(choice.request.message.prompt_token_ids), choice.num_sent
            )
        if reason is not None and not facts.include_usage:
            body["system_fingerprint"] = facts.fingerprint
        return event(encode_json(body))

    # --- both ---

    def _choice(self, choice: _Choice, text: str, token_ids: list[int]) -> dict[str, Any]:
        """A choice's next tokens, which may be all."""
        sequence, shows_ids = choice.sequence, self._facts.return_token_ids
        prompt_ids = None if choice.started else choice.request.message.prompt_token_ids
        text, token_ids, logprobs = self._part(choice, text, token_ids)
        return {
            "index": choice.index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": sequence.finish_reason,
            "stop_reason": sequence.stop_reason,
            "prompt_token_ids": prompt_ids if shows_ids else None,
            "token_ids": token_ids if shows_ids else None,
            "weight_versions": None,
        }

    def _part(
        self, choice: _Choice, text: str, token_ids: list[int]
    ) -> tuple[str, list[int], dict[str, Any] | None]:
        """(text, token ids, log-probabilities) to show of a choice's next tokens; the first part
        begins with what is echoed."""
        echoes, choice.started = self._echo and not choice.started, True
        start, choice.num_sent = choice.num_sent, choice.num_sent + len(token_ids)
        request = choice.request
        if self._only_echo:
            text, token_ids = "", []
        if echoes:
            text = self._prompt_text(request) + text
        if choice.logprobs is None:
            return text, token_ids, None
        positions = choice.sequence.logprobs(self._facts.tokenizer, start) or []
        own = (token_ids, positions[: len(token_ids)])
        if not echoes:
            return text, token_ids, choice.logprobs.part(own)
        ids = request.message.prompt_token_ids
        prompt = (ids, request.prompt_logprobs or [None] * len(ids))
        return text, token_ids, choice.logprobs.part(prompt, own)

    def _prompt_text(self, request: TrackedRequest) -> str:
        if request.prompt_text is not None:
            return request.prompt_text
        return self._facts.tokenizer.decode(request.message.prompt_token_ids)


_PLAIN_TAIL = (
    b',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
    b'"token_ids":null,"weight_versions":null}]}\n\n'
)
