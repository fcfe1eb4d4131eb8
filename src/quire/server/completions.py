"""POST /v1/completions."""

from fastapi import APIRouter, Request, Response

from quire.core.errors import RequestError
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend_prompt import Prompt, is_token_ids
from quire.server.answer import AnswerFacts, respond
from quire.server.beams import search_beams
from quire.server.completion_answer import CompletionAnswer
from quire.server.errors import refused
from quire.server.ids import request_id_headers
from quire.server.job import Job
from quire.server.json_body import json_response
from quire.server.params import check_body, check_max_tokens, sampling_params
from quire.server.prompts import Truncation, encode_text, offload, take_ids
from quire.server.protocol.common import CompletionRequest
from quire.server.routes import post, state_of
from quire.server.state import Serving
from quire.server.structured import check_grammar, structured_outputs

router = APIRouter()


@post(router, "/v1/completions", "OpenAI")
async def create_completion(body: CompletionRequest, http: Request) -> Response:
    """Continue one or several prompts."""
    state = state_of(http)
    serving = state.ready()
    state.check_model(body.model)
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
    facts = AnswerFacts.of("cmpl", state, serving, http, body)
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
