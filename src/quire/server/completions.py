"""POST /v1/completions."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from quire.core.errors import RequestError
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend_prompt import Prompt, is_token_ids
from quire.engine.frontend_request import TrackedRequest, TrackedSequence
from quire.server.answer import AnswerFacts, raise_failed
from quire.server.completion_stream import CompletionStream
from quire.server.errors import refused
from quire.server.ids import priority_of, request_id_headers
from quire.server.job import Job
from quire.server.json_body import json_response
from quire.server.logprobs import CompletionLogprobs, TokenWriter, prompt_logprobs_body
from quire.server.params import check_body, check_max_tokens, sampling_params
from quire.server.prompts import Truncation, encode_text, offload, take_ids
from quire.server.protocol.completions import CompletionRequest
from quire.server.routes import GENERATION_ERRORS, JSON_ONLY, state_of
from quire.server.sse import EventStream
from quire.server.state import ServerState, Serving
from quire.server.structured import structured_outputs
from quire.server.usage import usage_body

router = APIRouter()


@router.post(
    "/v1/completions",
    dependencies=JSON_ONLY,
    response_model=None,
    responses=GENERATION_ERRORS,
    tags=["OpenAI"],
)
async def create_completion(body: CompletionRequest, http: Request) -> Response:
    """Continue one or several prompts."""
    state = state_of(http)
    serving = state.ready()
    state.check_model(body.model)
    each = _each_prompt(body)
    check_body(body, state.config, len(each))
    if body.suffix:
        raise refused("suffix")
    check_max_tokens("max_tokens", body.max_tokens, serving.info.max_model_len)
    if body.max_tokens == 0 and not body.echo:
        raise RequestError("max_tokens must be at least 1; 0 needs echo=true", "max_tokens", 0)
    params = _params(body, serving)
    prompts = await offload(
        sum(map(len, each)), lambda: [_encode(serving, body, prompt) for prompt in each]
    )
    facts = AnswerFacts.of("cmpl", state, serving, http, body.request_id)
    headers = request_id_headers(http, state.config.enable_request_id_headers)
    job = await Job.open(
        state,
        http,
        prompts,
        params,
        request_id=facts.id,
        priority=priority_of(http, body.priority),
        streaming=bool(body.stream),
        timeout=body.timeout,
    )
    shape = CompletionShape(state, serving, body, facts)
    if body.stream:
        stream = CompletionStream(job, shape)
        return EventStream(
            stream.events(), job.close, state.config.sse_keep_alive_interval, headers
        )
    try:
        requests = await job.finished()
        raise_failed(job.sequences)
        return json_response(shape.whole(requests), headers)
    finally:
        job.close()


def _each_prompt(body: CompletionRequest) -> list[str | list[int]]:
    prompt = body.prompt
    if prompt is None or prompt == []:
        raise RequestError("prompt is missing or empty; give a text or token ids", "prompt")
    if isinstance(prompt, str):
        return [prompt]
    if is_token_ids(prompt):
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
    return sampling_params(
        body,
        serving.info.generation_defaults,
        max_tokens=max(1, body.max_tokens) if body.max_tokens is not None else None,
        logprobs=body.logprobs,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=structured_outputs(body),
    )


class CompletionShape:
    """What a body asks its answer to carry; builds whole answers and the parts of streams."""

    def __init__(
        self, state: ServerState, serving: Serving, body: CompletionRequest, facts: AnswerFacts
    ) -> None:
        config = state.config
        self.facts = facts
        self.tokenizer = serving.tokenizer
        self.echo = bool(body.echo)
        self.only_echo = self.echo and body.max_tokens == 0
        self.num_top = body.logprobs
        self.asked_prompt_logprobs = body.prompt_logprobs is not None
        self.return_token_ids = bool(body.return_token_ids)
        as_ids = body.return_tokens_as_token_ids
        self.writer = TokenWriter(
            serving.tokenizer, config.return_tokens_as_token_ids if as_ids is None else as_ids
        )
        forced = config.enable_force_include_usage
        self.include_usage = body.include_usage or forced
        self.continuous_usage = body.continuous_usage or forced
        self.prompt_details = config.enable_prompt_tokens_details
        self.interval = body.stream_interval or 1

    def prompt_text(self, request: TrackedRequest) -> str:
        """For `echo`."""
        if request.prompt_text is not None or self.tokenizer is None:
            return request.prompt_text or ""
        return self.tokenizer.decode(request.message.prompt_token_ids)

    def echoed_logprobs(
        self, logprobs: CompletionLogprobs, request: TrackedRequest
    ) -> dict[str, Any]:
        """The prompt's part of `logprobs`."""
        ids = request.message.prompt_token_ids
        positions = request.prompt_logprobs or [None] * len(ids)
        return logprobs.part(ids, positions)

    def whole(self, requests: Sequence[TrackedRequest]) -> dict[str, Any]:
        """The answer that is not streamed."""
        choices: list[dict[str, Any]] = []
        for request in requests:
            for sequence in request.sequences:
                choices.append(self._choice(len(choices), request, sequence))
        return {
            "id": self.facts.id,
            "object": "text_completion",
            "created": self.facts.created,
            "model": self.facts.model,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": self.facts.fingerprint,
            "usage": usage_body(requests, details=self.prompt_details, nulls=True),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def _choice(
        self, index: int, request: TrackedRequest, sequence: TrackedSequence
    ) -> dict[str, Any]:
        own_text = "" if self.only_echo else sequence.text
        own_ids = [] if self.only_echo else sequence.token_ids
        prompt_ids = request.message.prompt_token_ids
        return {
            "index": index,
            "text": self.prompt_text(request) + own_text if self.echo else own_text,
            "logprobs": self._logprobs(request, sequence),
            "finish_reason": sequence.finish_reason,
            "stop_reason": sequence.stop_reason,
            "token_ids": own_ids if self.return_token_ids else None,
            "prompt_logprobs": (
                prompt_logprobs_body(request.prompt_logprobs)
                if self.asked_prompt_logprobs
                else None
            ),
            "prompt_token_ids": prompt_ids if self.return_token_ids else None,
            "routed_experts": None,
            "weight_versions": None,
        }

    def _logprobs(
        self, request: TrackedRequest, sequence: TrackedSequence
    ) -> dict[str, Any] | None:
        if self.num_top is None:
            return None
        writer = CompletionLogprobs(self.writer, self.num_top)
        parts = []
        if self.echo:
            parts.append(self.echoed_logprobs(writer, request))
        if not self.only_echo:
            positions = sequence.logprobs(self.tokenizer) or []
            parts.append(writer.part(sequence.token_ids, positions))
        return {name: [item for part in parts for item in part[name]] for name in parts[0]}
