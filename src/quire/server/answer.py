"""What every answer to a generation has, what its body asked it to carry, and how it is sent."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from quire.engine.frontend import Update
from quire.engine.frontend_request import TrackedRequest
from quire.server.job import Job
from quire.server.logprobs import TokenWriter
from quire.server.protocol.common import GenerationBody
from quire.server.replies import answer_id, encode_json, json_response, request_id_headers
from quire.server.sse import DONE, EventStream, error_events, event
from quire.server.state import ServerState, Serving


class AnswerFacts:
    """Fixed before the first token, and the same from the first chunk to the last. Its id begins
    with `prefix`."""

    def __init__(
        self, prefix: str, state: ServerState, serving: Serving, http: Request, body: GenerationBody
    ) -> None:
        config = state.config
        forced = config.enable_force_include_usage
        as_ids = body.return_tokens_as_token_ids
        if as_ids is None:
            as_ids = config.return_tokens_as_token_ids
        self.id = answer_id(prefix, http, body.request_id)
        self.created = int(time.time())
        self.model = state.model_names[0]
        self.fingerprint = serving.fingerprint
        self.tokenizer = serving.tokenizer
        self.writer = TokenWriter(serving.tokenizer, as_ids)
        self.return_token_ids = bool(body.return_token_ids)
        self.include_usage = body.include_usage or forced
        self.continuous_usage = body.continuous_usage or forced
        # Whether to say how many prompt tokens came from the cache.
        self.prompt_details = config.enable_prompt_tokens_details
        self.interval = body.stream_interval or 1  # tokens a chunk holds

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that every body and chunk begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def whole(
        self,
        kind: str,
        choices: list[dict[str, Any]],
        requests: Sequence[TrackedRequest],
        reasoning_tokens: int | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The body of an answer that is not streamed; `more` are one API's own fields."""
        usage = self.usage(requests, reasoning_tokens)
        usage.setdefault("prompt_tokens_details", None)
        return {
            **self.head(kind),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": self.fingerprint,
            "usage": usage,
            **more,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def usage(
        self, requests: Sequence[TrackedRequest], reasoning_tokens: int | None = None
    ) -> dict[str, Any]:
        """`usage` of a whole answer; `reasoning_tokens` are known only with a reasoning parser."""
        completion = sum(len(s.token_ids) for request in requests for s in request.sequences)
        body: dict[str, Any] = count_body(
            sum(len(request.message.prompt_token_ids) for request in requests), completion
        )
        if self.prompt_details:
            cached = sum(request.num_cached_tokens or 0 for request in requests)
            body["prompt_tokens_details"] = {"cached_tokens": cached}
        if reasoning_tokens is not None:
            body["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
        return body


def count_body(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }


async def respond(
    job: Job,
    http: Request,
    streaming: bool | None,
    events: Callable[[], AsyncIterator[bytes]],
    whole: Callable[[], dict[str, Any]],
    *,
    headers: Mapping[str, str] | None = None,
    on_error: Callable[[BaseException], bytes] = error_events,
) -> Response:
    """The answer to an open job, which is closed when all of it has been sent.

    Args:
        whole: asked for the body once the job has finished.
        headers: besides the request's id.
        on_error: the bytes that tell a client of an error in the middle of a stream.

    Raises:
        APIError: 500, the generation failed before anything was sent.
    """
    config = job.state.config
    told = request_id_headers(http) | dict(headers or {})
    try:
        if streaming:
            interval = config.sse_keep_alive_interval
            return EventStream(events(), job.close, interval, told, on_error)
        await job.finished()
        answer = json_response(whole(), told)
    except BaseException:
        job.close()
        raise
    job.close()
    return answer


async def chunk_events(
    job: Job,
    facts: AnswerFacts,
    head: dict[str, Any],
    chunk: Callable[[int, Update], bytes],
    opening: Callable[[], bytes] = bytes,
    reasoning_tokens: Callable[[], int | None] = lambda: None,
) -> AsyncIterator[bytes]:
    """A stream of chunks: the opening, what `chunk` makes of each choice's updates, the usage if
    it was asked for, and `[DONE]`."""
    first = True
    async for updates in job.updates(facts.interval):
        data = b"".join([chunk(choice, update) for choice, update in updates.items()])
        if first:
            first = False
            data = opening() + data
        if data:
            yield data
    if facts.include_usage:
        usage = facts.usage(job.requests, reasoning_tokens())
        last = {"choices": [], "usage": usage, "system_fingerprint": facts.fingerprint}
        yield event(encode_json(head | last))
    yield DONE
