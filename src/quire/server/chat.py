"""POST /v1/chat/completions."""

import asyncio

from fastapi import APIRouter, Request, Response

from quire.core.errors import RequestError
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend_prompt import Prompt
from quire.server.answer import AnswerFacts, respond
from quire.server.beams import search_beams
from quire.server.chat_answer import ChatStream, chat_body
from quire.server.chat_prompt import chat_prompt
from quire.server.chat_shape import ChatShape
from quire.server.chat_tools import tool_use
from quire.server.job import Job
from quire.server.params import check_body, check_max_tokens, sampling_params
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.replies import json_response, request_id_headers
from quire.server.routes import post, state_of
from quire.server.state import ServerState, Serving
from quire.server.structured import after_reasoning, check_grammar, structured_outputs
from quire.text.reasoning.formats import reasoning_format_of

router = APIRouter()


@post(router, "/v1/chat/completions", "OpenAI")
async def create_chat_completion(body: ChatCompletionRequest, http: Request) -> Response:
    """Answer a conversation."""
    state = state_of(http)
    if body.use_beam_search:
        prompt, params, shape = await _prepared(state, body, http)
        found = await search_beams(state, http, body, [prompt], params, shape.facts.id)
        return json_response(chat_body(found[0], shape), request_id_headers(http))
    job, shape = await open_chat(state, body, http)
    return await respond(
        job,
        http,
        body.stream,
        lambda: ChatStream(job, shape).events(),
        lambda: chat_body(job.requests[0], shape),
    )


async def open_chat(
    state: ServerState, body: ChatCompletionRequest, http: Request, api: str = "chat_completions"
) -> tuple[Job, ChatShape]:
    """Check a chat body and submit it; the caller closes the job. Other APIs that are chat in
    another dress begin here too.

    Args:
        api: which it is, for metrics.

    Raises:
        RequestError, APIError, TooBusyError: refused.
    """
    prompt, params, shape = await _prepared(state, body, http, api)
    job = await Job.open(
        state,
        http,
        [prompt],
        params,
        request_id=shape.facts.id,
        priority=body.priority,
        streaming=bool(body.stream),
        timeout=body.timeout,
    )
    return job, shape


async def _prepared(
    state: ServerState, body: ChatCompletionRequest, http: Request, api: str = "chat_completions"
) -> tuple[Prompt, SamplingParams, ChatShape]:
    serving = state.ready(body.model)
    check_body(body, state.config)
    params = _params(body, serving)
    form = structured_outputs(body)
    if body.tools:  # whose schemas may take their time
        tools = await asyncio.to_thread(tool_use, body, serving, form)
    else:
        tools = tool_use(body, serving, form)
    prompt = await chat_prompt(state, serving, body)
    reasoning = serving.parsers.reasoning
    constraint = tools.constraint
    if constraint is not None and reasoning is not None:
        constraint = after_reasoning(constraint, reasoning, prompt.text or "")
    await check_grammar(serving, constraint)
    params.structured_outputs = constraint
    if tools.shows_special_tokens or (reasoning and reasoning_format_of(reasoning).special):
        params.skip_special_tokens = False
    facts = AnswerFacts("chatcmpl", state, serving, http, body)
    return prompt, params, ChatShape(state, body, facts, tools, prompt, reasoning, api)


def _params(body: ChatCompletionRequest, serving: Serving) -> SamplingParams:
    if body.top_logprobs is not None and body.top_logprobs < -1:
        raise RequestError("top_logprobs must be at least 0", "top_logprobs", body.top_logprobs)
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs=true", "top_logprobs", body.top_logprobs)
    return sampling_params(
        body,
        serving.info.generation_defaults,
        max_tokens=_max_tokens(body, serving),
        logprobs=body.top_logprobs or 0 if body.logprobs else None,
        prompt_logprobs=body.prompt_logprobs,
    )


def _max_tokens(body: ChatCompletionRequest, serving: Serving) -> int | None:
    """max_completion_tokens wins; the model's own limit is the default."""
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    value: int | None = getattr(body, name)
    check_max_tokens(name, value, serving.info.max_model_len)
    if value is None:
        default = serving.info.generation_defaults.get("max_tokens")
        return None if default is None else int(default)
    if value < 1:
        raise RequestError(f"{name} must be at least 1, got {value}.", name, value)
    return value
