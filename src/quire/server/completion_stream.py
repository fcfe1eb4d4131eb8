"""The chunks of a streamed completion."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from quire.engine.frontend import Update
from quire.engine.frontend_request import TrackedRequest
from quire.server.answer import raise_failed
from quire.server.job import Job
from quire.server.json_body import encode_json
from quire.server.logprobs import CompletionLogprobs
from quire.server.sse import DONE, event
from quire.server.stream_interval import Intervals
from quire.server.usage import count_body, usage_body

if TYPE_CHECKING:
    from quire.server.completions import CompletionShape


class _Choice:
    """One choice so far."""

    __slots__ = ("index", "logprobs", "num_sent", "plain_head", "request", "started")

    def __init__(self, index: int, request: TrackedRequest, plain_head: bytes) -> None:
        self.index = index
        self.request = request
        self.num_sent = 0  # tokens
        self.started = False
        self.logprobs: CompletionLogprobs | None = None
        self.plain_head = plain_head  # a plain chunk up to its text


class CompletionStream:
    """One streamed answer."""

    def __init__(self, job: Job, shape: "CompletionShape") -> None:
        self._job = job
        self._shape = shape
        facts = shape.facts
        self._head = {
            "id": facts.id,
            "object": "text_completion",
            "created": facts.created,
            "model": facts.model,
        }
        head = encode_json(self._head)[:-1]
        self._choices = [
            _Choice(0, request, b"")
            for request in job.requests
            for _ in range(request.message.params.n)
        ]
        for index, choice in enumerate(self._choices):
            choice.index = index
            choice.plain_head = (
                b"data: " + head + b',"choices":[{"index":' + str(index).encode() + b',"text":'
            )
            if shape.num_top is not None:
                choice.logprobs = CompletionLogprobs(shape.writer, shape.num_top)
        # What a chunk carries that says nothing but text.
        self._plain = not (
            shape.echo
            or shape.return_token_ids
            or shape.continuous_usage
            or shape.num_top is not None
        )

    async def events(self) -> AsyncIterator[bytes]:
        """Every chunk, and `[DONE]`."""
        intervals = Intervals(self._shape.interval)
        async for updates in self._job.updates():
            data = b"".join(
                self._chunk(self._choices[index], update)
                for index, update in intervals.due(updates)
            )
            if data:
                yield data
        if self._shape.include_usage:
            yield event(encode_json(self._usage_chunk()))
        yield DONE

    def _chunk(self, choice: _Choice, update: Update) -> bytes:
        reason = update.sequence.finish_reason
        if self._plain and reason is None:
            if not update.text:
                return b""
            return choice.plain_head + encode_json(update.text) + _PLAIN_TAIL
        if reason == "error":
            raise_failed([update.sequence])
        body = {**self._head, "choices": [self._choice(choice, update)]}
        if self._shape.continuous_usage:
            prompt = len(choice.request.message.prompt_token_ids)
            body["usage"] = count_body(prompt, choice.num_sent)
        if reason is not None and not self._shape.include_usage:
            body["system_fingerprint"] = self._shape.facts.fingerprint
        return event(encode_json(body))

    def _choice(self, choice: _Choice, update: Update) -> dict[str, Any]:
        shape, sequence, request = self._shape, update.sequence, choice.request
        echoes = shape.echo and not choice.started
        choice.started = True
        text = "" if shape.only_echo else update.text
        token_ids = [] if shape.only_echo else update.token_ids
        logprobs = None
        if choice.logprobs is not None:
            parts = [shape.echoed_logprobs(choice.logprobs, request)] if echoes else []
            positions = sequence.logprobs(shape.tokenizer, choice.num_sent) or []
            parts.append(choice.logprobs.part(token_ids, positions[: len(token_ids)]))
            logprobs = {name: [item for p in parts for item in p[name]] for name in parts[0]}
        first = choice.num_sent == 0
        choice.num_sent += len(update.token_ids)
        return {
            "index": choice.index,
            "text": shape.prompt_text(request) + text if echoes else text,
            "logprobs": logprobs,
            "finish_reason": sequence.finish_reason,
            "stop_reason": sequence.stop_reason,
            "prompt_token_ids": (
                request.message.prompt_token_ids if shape.return_token_ids and first else None
            ),
            "token_ids": token_ids if shape.return_token_ids else None,
            "weight_versions": None,
        }

    def _usage_chunk(self) -> dict[str, Any]:
        usage = usage_body(self._job.requests, details=self._shape.prompt_details)
        return {
            **self._head,
            "choices": [],
            "usage": usage,
            "system_fingerprint": self._shape.facts.fingerprint,
        }


_PLAIN_TAIL = (
    b',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
    b'"token_ids":null,"weight_versions":null}]}\n\n'
)
