"""POST /v1/responses, and what can be done with a response later: get, delete, cancel.

A turn is a chat turn in another dress (`chat.open_chat`). Kept responses are in `state.responses`.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import Message

from quire.core.errors import RequestError
from quire.server.access import KEY_SCOPE
from quire.server.answer import respond
from quire.server.as_chat import ChatTurn
from quire.server.chat import open_chat
from quire.server.errors import APIError, ClientGoneError, as_api_error, refused
from quire.server.protocol.responses import ResponsesRequest
from quire.server.replies import encode_json, json_response, random_id, request_id_headers
from quire.server.responses_input import Item, chat_request, input_items
from quire.server.responses_output import OutputItems, usage_of
from quire.server.responses_store import ResponseStore, StoredResponse
from quire.server.routes import GENERATION_ERRORS, post, state_of
from quire.server.sse import named_event

router = APIRouter()
_HOW: dict[str, Any] = {
    "response_model": None,
    "responses": GENERATION_ERRORS,
    "tags": ["OpenAI"],
}


@post(router, "/v1/responses", "OpenAI")
async def create_response(body: ResponsesRequest, http: Request) -> Response:
    """Answer one turn of a conversation."""
    state = state_of(http)
    state.ready()
    _check(body)
    owner = http.scope.get(KEY_SCOPE)
    given = input_items(body)
    earlier: list[Item] = []
    if body.previous_response_id is not None:
        earlier = _previous(state.responses, body.previous_response_id, owner)
    conversation = [*earlier, *given]
    client = _detached(http) if body.background else http
    job, shape = await open_chat(state, chat_request(body, conversation), client, "responses")
    answer = ResponseAnswer(body, ChatTurn(job, shape), shape.facts.model)
    if body.store is not False:
        answer.keep_in(state.responses, StoredResponse(answer.body, conversation, given, owner))
    if body.background:
        answer.run_in_background()
        return json_response(answer.body, request_id_headers(http))
    return await respond(job, http, body.stream, answer.events, answer.whole)


@router.get("/v1/responses/{response_id}", **_HOW)
async def get_response(response_id: str, http: Request) -> Response:
    """A kept response, as it is now."""
    return json_response(_kept(http, response_id).body)


@router.get("/v1/responses/{response_id}/input_items", **_HOW)
async def list_input_items(response_id: str, http: Request) -> Response:
    """What a kept response answered."""
    items = [
        {"id": f"{response_id}-{index}", "type": "message", **item}
        for index, item in enumerate(_kept(http, response_id).input_items)
    ]
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"], "has_more": False}
    return json_response({"object": "list", "data": items, **ends})


@router.delete("/v1/responses/{response_id}", **_HOW)
async def delete_response(response_id: str, http: Request) -> Response:
    """Forget a kept response."""
    state_of(http).responses.delete(response_id, http.scope.get(KEY_SCOPE))
    return json_response({"id": response_id, "object": "response.deleted", "deleted": True})


@router.post("/v1/responses/{response_id}/cancel", **_HOW)
async def cancel_response(response_id: str, http: Request) -> Response:
    """Stop a response that is made in the background."""
    kept = _kept(http, response_id)
    if not kept.body["background"]:
        raise APIError(
            400, "Only a response with background=true can be cancelled.", "BadRequestError"
        )
    if kept.task is not None:
        kept.body["status"] = "cancelled"
        kept.task.cancel()
        kept.task = None
        state_of(http).responses.put(kept)
    return json_response(kept.body)


class ResponseAnswer:
    """One response while it is made. `body` is the answer as it is now."""

    def __init__(self, body: ResponsesRequest, turn: ChatTurn, model: str) -> None:
        self._turn = turn
        self._output = OutputItems()
        self._kept: StoredResponse | None = None
        self._store: ResponseStore | None = None
        self.body = _first_body(body, turn, model)

    def keep_in(self, store: ResponseStore, entry: StoredResponse) -> None:
        """Where the answer goes when it is complete."""
        self._store, self._kept = store, entry

    # --- three ways to make it ---

    def whole(self) -> dict[str, Any]:
        """The body, once the job has finished."""
        self._output.add(self._turn.whole())
        self._output.finish(self._complete)
        self._finish()
        return self.body

    async def events(self) -> AsyncIterator[bytes]:
        """Make it, telling of every step."""
        numbers = itertools.count()

        def encoded(*events: dict[str, Any]) -> bytes:
            return b"".join(
                named_event(each["type"], encode_json({**each, "sequence_number": next(numbers)}))
                for each in events
            )

        self.body["status"] = "in_progress"
        opening = dict(self.body)
        yield encoded(
            {"type": "response.created", "response": opening},
            {"type": "response.in_progress", "response": opening},
        )
        try:
            async for piece in self._turn.pieces():
                made = self._output.add(piece)
                if made:
                    yield encoded(*made)
            made = self._output.finish(self._complete)
            self._finish()
        except ClientGoneError:
            raise
        except Exception as error:
            self._fail(error)
            made = []
        yield encoded(*made, {"type": f"response.{self.body['status']}", "response": self.body})

    def run_in_background(self) -> None:
        """Make it without anybody waiting; the store has what has become of it."""
        assert self._kept is not None
        assert self._store is not None
        task = asyncio.create_task(self._background(), name="quire-response")
        task.add_done_callback(lambda _: self._turn.job.close())
        self._kept.task = task
        self._store.put(self._kept)

    async def _background(self) -> None:
        self.body["status"] = "in_progress"
        try:
            await self._turn.job.finished()
            self.whole()
        except Exception as error:
            self._fail(error)

    # --- endings ---

    @property
    def _complete(self) -> bool:
        return self._turn.sequence.finish_reason != "length"

    def _finish(self) -> None:
        body = self.body
        body["output"] = self._output.items()
        body["usage"] = usage_of(self._turn.counts())
        if self._complete:
            body["status"], body["completed_at"] = "completed", int(time.time())
        else:
            body["status"] = "incomplete"
            body["incomplete_details"] = {"reason": "max_output_tokens"}
        self._keep()

    def _fail(self, error: Exception) -> None:
        self.body["status"] = "failed"
        self.body["output"] = self._output.items()
        self.body["error"] = {"code": "server_error", "message": as_api_error(error).message}
        self._keep()

    def _keep(self) -> None:
        if self._kept is not None and self._store is not None:
            self._kept.items = [*self._kept.items, *self.body["output"]]
            self._kept.task = None
            self._store.put(self._kept)


def _first_body(body: ResponsesRequest, turn: ChatTurn, model: str) -> dict[str, Any]:
    """A response of which nothing is made yet."""
    params = turn.job.requests[0].message.params
    return {
        "id": f"resp_{random_id()}{random_id()}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "queued",
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt": None,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "service_tier": body.service_tier or "auto",
        "store": body.store is not False,
        "temperature": params.temperature,
        "text": {"format": (body.text and body.text.format) or {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_logprobs": body.top_logprobs,
        "top_p": params.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
    }


def _check(body: ResponsesRequest) -> None:
    for name in ("prompt", "conversation"):
        if getattr(body, name) is not None:
            raise refused(name, "send the whole input, or previous_response_id")
    if body.background and body.store is False:
        raise RequestError("background=true needs store=true", "background")
    if body.background and body.stream:
        raise refused("background with stream", "ask for one of them")


def _previous(store: ResponseStore, name: str, owner: str | None) -> list[Item]:
    """The conversation up to a kept response."""
    kept = store.get(name, owner, "previous_response_id")
    if kept.task is not None:
        raise RequestError(
            "the previous response is still being made; wait for it", "previous_response_id", name
        )
    return kept.items


def _kept(http: Request, response_id: str) -> StoredResponse:
    return state_of(http).responses.get(response_id, http.scope.get(KEY_SCOPE))


def _detached(http: Request) -> Request:
    """The request as of a client that never leaves."""

    async def silence() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    return Request(http.scope, silence)
