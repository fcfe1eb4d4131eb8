"""POST /tokenize and /detokenize."""

from typing import Any

from fastapi import APIRouter, Request, Response

from quire.core.errors import RequestError
from quire.server.chat_prompt import conversation_text, plain_tools
from quire.server.prompts import offload
from quire.server.protocol.chat import ToolDefinition
from quire.server.protocol.common import Body
from quire.server.replies import json_response
from quire.server.routes import post, state_of
from quire.server.state import ServerState, Serving


class TokenizeRequest(Body):
    """A prompt, or a conversation as chat would render it."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: list[ToolDefinition] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[int]


router = APIRouter()


@post(router, "/tokenize", "Tokens")
async def tokenize(body: TokenizeRequest, http: Request) -> Response:
    """The token ids of a text or a conversation."""
    state = state_of(http)
    serving = state.ready(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("give prompt or messages, one of them", "prompt")
    size = len(body.prompt) if body.prompt is not None else len(repr(body.messages))
    return json_response(await offload(size, _tokenize, state, serving, body))


def _tokenize(state: ServerState, serving: Serving, body: TokenizeRequest) -> dict[str, Any]:
    tokenizer = serving.tokenizer
    if body.prompt is not None:
        text, special = body.prompt, body.add_special_tokens is not False
    else:
        tools = plain_tools(body.tools)
        text = conversation_text(state, serving, body.messages or [], body, tools=tools)
        special = bool(body.add_special_tokens)
    token_ids = tokenizer.encode(text, add_special_tokens=special)
    return {
        "count": len(token_ids),
        "max_model_len": serving.info.max_model_len,
        "tokens": token_ids,
        "token_strs": (
            [tokenizer.token_text(i) for i in token_ids] if body.return_token_strs else None
        ),
    }


@post(router, "/detokenize", "Tokens")
async def detokenize(body: DetokenizeRequest, http: Request) -> Response:
    """The text of token ids."""
    state = state_of(http)
    serving = state.ready(body.model)
    for token_id in body.tokens:
        if not 0 <= token_id < serving.info.vocab_size:
            raise RequestError(
                f"tokens holds {token_id}, outside the vocabulary [0, {serving.info.vocab_size})",
                "tokens",
                token_id,
            )
    text = await offload(len(body.tokens), serving.tokenizer.decode, body.tokens)
    return json_response({"prompt": text})
