"""What every answer to a generation has: its name, its time, whose it is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from quire.engine.frontend_request import TrackedSequence
from quire.server.errors import APIError
from quire.server.ids import answer_id
from quire.server.state import ServerState, Serving


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """Stays the same from the first chunk to the last."""

    id: str
    model: str
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(
        cls, prefix: str, state: ServerState, serving: Serving, http: Request, body_id: str | None
    ) -> "AnswerFacts":
        """A fresh answer; its id begins with `prefix`."""
        return cls(answer_id(prefix, http, body_id), state.model_names[0], serving.fingerprint)


def raise_failed(sequences: Sequence[TrackedSequence]) -> None:
    """A sequence that ended in an error is none that could be shown.

    Raises:
        APIError: 500 with the cause.
    """
    for sequence in sequences:
        if sequence.finish_reason == "error":
            raise APIError(500, sequence.error or "the generation failed", "InternalServerError")
