"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request, Response

from quire.core.errors import RequestError
from quire.core.sampling_params import SamplingParams
from quire.core.structured_outputs import StructuredOutputsParams
from quire.server.answer import AnswerFacts, raise_failed
from quire.server.chat_body import chat_body
from quire.server.chat_prompt import chat_prompt
from quire.server.chat_shape import ChatShape
from quire.server.chat_stream import ChatStream
from quire.server.chat_tools import ToolUse, tool_use
from quire.server.constraints import after_reasoning, either, shows_special_tokens
from quire.server.ids import priority_of, request_id_headers
from quire.server.job import Job
from quire.server.json_body import json_response
from quire.server.params import check_body, check_max_tokens, sampling_params
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.routes import GENERATION_ERRORS, JSON_ONLY, state_of
from quire.server.sse import EventStream
from quire.server.state import ServerState, Serving
from quire.server.structured import structured_outputs

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    dependencies=JSON_ONLY,
    response_model=None,
    responses=GENERATION_ERRORS,
    tags=["OpenAI"],
)
async def create_chat_completion(body: ChatCompletionRequest, http: Request) -> Response:
    """Answer a conversation."""
    state = state_of(http)
    job, shape = await open_chat(state, body, http)
    headers = request_id_headers(http, state.config.enable_request_id_headers)
    if body.stream:
        stream = ChatStream(job, shape)
        return EventStream(
            stream.events(), job.close, state.config.sse_keep_alive_interval, headers
        )
    try:
        requests = await job.finished()
        raise_failed(job.sequences)
        return json_response(chat_body(requests[0], shape), headers)
    finally:
        job.close()


async def open_chat(
    state: ServerState, body: ChatCompletionRequest, http: Request
) -> tuple[Job, ChatShape]:
    """Check a chat body and submit it; the caller closes the job. Other APIs that are chat in
    another dress begin here too.

    Raises:
        RequestError, APIError, TooBusyError: refused.
    """
    serving = state.ready()
    state.check_model(body.model)
    check_body(body, state.config)
    tools = tool_use(body, serving)
    limit = _max_tokens(body, serving)
    params = _params(body, serving, limit, tools)
    prompt = await chat_prompt(state, serving, body)
    reasoning = serving.parsers.reasoning
    if reasoning is not None and params.structured_outputs is not None:
        params.structured_outputs = after_reasoning(
            params.structured_outputs, reasoning, prompt.text or ""
        )
    facts = AnswerFacts.of("chatcmpl", state, serving, http, body.request_id)
    job = await Job.open(
        state,
        http,
        [prompt],
        params,
        request_id=facts.id,
        priority=priority_of(http, body.priority),
        streaming=bool(body.stream),
        timeout=body.timeout,
    )
    return job, ChatShape.of(state, serving, body, facts, tools, prompt)


def _max_tokens(body: ChatCompletionRequest, serving: Serving) -> int | None:
    """max_completion_tokens wins; the model's own limit is the default."""
    longest = serving.info.max_model_len
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    value: int | None = getattr(body, name)
    check_max_tokens(name, value, longest)
    if value is None:
        default = serving.info.generation_defaults.get("max_tokens")
        return None if default is None else int(default)
    if value < 1:
        raise RequestError(f"{name} must be at least 1, got {value}.", name, value)
    return value


def _with_calls(
    answer: StructuredOutputsParams | None, tools: ToolUse
) -> StructuredOutputsParams | None:
    """The form of the answer, and that of calls."""
    if answer is None:
        return tools.constraint
    if tools.only_calls is None:
        raise RequestError(
            "forced tool calls and a response format exclude each other; use tool_choice='auto'"
            " or 'none', or leave the format out",
            "tool_choice",
        )
    return either(answer, tools.only_calls)


def _params(
    body: ChatCompletionRequest, serving: Serving, max_tokens: int | None, tools: ToolUse
) -> SamplingParams:
    logprobs = None
    if body.top_logprobs is not None and body.top_logprobs < -1:
        raise RequestError("top_logprobs must be at least 0", "top_logprobs", body.top_logprobs)
    if body.logprobs:
        logprobs = body.top_logprobs or 0
    elif body.top_logprobs:
        raise RequestError("top_logprobs needs logprobs=true", "top_logprobs", body.top_logprobs)
    constraint = structured_outputs(body)
    if tools.constraint is not None:
        constraint = _with_calls(constraint, tools)
    params = sampling_params(
        body,
        serving.info.generation_defaults,
        max_tokens=max_tokens,
        logprobs=logprobs,
        prompt_logprobs=body.prompt_logprobs,
        structured_outputs=constraint,
    )
    if tools.shows_special_tokens or shows_special_tokens(serving.parsers.reasoning):
        params.skip_special_tokens = False
    return params
