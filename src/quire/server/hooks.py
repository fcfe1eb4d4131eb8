"""What the parts of a server tell each other: the engine its server, a request its admission."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from quire.core.errors import QuireError
from quire.core.messages import AbortRequests, AddRequest, StepOutputs
from quire.engine.remote import RemoteEngine


@dataclass(frozen=True, slots=True)
class EngineCallbacks:
    """What an engine tells its server, on the event loop."""

    on_outputs: Callable[[StepOutputs], None]
    on_restart: Callable[[], list[AddRequest | AbortRequests]]  # what to resubmit
    on_failed: Callable[[QuireError], None]  # it is given up; every request has been ended


# Makes an engine that is not started yet.
EngineFactory = Callable[[EngineCallbacks], RemoteEngine]


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What admission may decide by, once the prompts are token ids."""

    key: str | None  # the API key's name
    num_prompt_tokens: int  # of all prompts
    num_sequences: int  # n times the prompts
    max_tokens: int  # of all sequences, at most
    priority: int


class Permit(Protocol):
    """Leave to run one HTTP request."""

    def release(self, num_output_tokens: int) -> None:
        """It is over, however it ended, and gave so many tokens. Called once."""
