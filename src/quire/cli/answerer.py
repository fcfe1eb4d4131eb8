"""Who answers `quire chat` and `quire complete`: a model loaded here, or a running server.

Both give an answer in pieces; what asks them does not know which it is. This file has the model
loaded here, `client.py` the server.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from quire.core.outputs import FinishReason
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend_prompt import Prompt
from quire.text.chat import render_chat

if TYPE_CHECKING:
    from quire.llm import LLM

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Piece:
    """What was added to an answer. The last one says why it ended."""

    text: str
    num_tokens: int
    finish_reason: FinishReason | str | None = None
    error: str | None = None


class Answerer(Protocol):
    """Answers. Leaving an iteration early stops the work behind it."""

    @property
    def model(self) -> str:
        """Its name, for people."""

    def chat(self, messages: list[Message]) -> Iterator[Piece]:
        """The next turn of a conversation. Raises QuireError if it cannot be answered."""

    def complete(self, prompt: str) -> Iterator[Piece]:
        """A text's continuation. Raises QuireError if there is none."""


class LocalAnswerer:
    """A model in this process.

    Args:
        sampling: fields of `SamplingParams` that differ from the model's defaults.
        whole_context: without max_tokens, answers may be as long as the context allows.
        chat_template: text or file, where it is not the model's own.
    """

    def __init__(
        self,
        llm: "LLM",
        sampling: dict[str, Any],
        *,
        whole_context: bool = False,
        chat_template: str | None = None,
    ) -> None:
        self._llm = llm
        self._template = chat_template
        self._params: SamplingParams = llm.get_default_sampling_params()
        if whole_context:
            self._params.max_tokens = None
        for name, value in sampling.items():
            setattr(self._params, name, value)
        self._params.validate()

    @property
    def model(self) -> str:
        """As the user named it."""
        return self._llm.model_info.model

    def chat(self, messages: list[Message]) -> Iterator[Piece]:
        """Through the chat template."""
        tokenizer = self._llm.tokenizer
        assert tokenizer is not None, "the CLI has no skip_tokenizer_init"
        text = render_chat(tokenizer, messages, chat_template=self._template)
        return self._stream(Prompt(text, None, add_special_tokens=False))

    def complete(self, prompt: str) -> Iterator[Piece]:
        """The text as it stands."""
        return self._stream(prompt)

    def _stream(self, prompt: str | Prompt) -> Iterator[Piece]:
        for update in self._llm.stream(prompt, self._params):
            sequence = update.sequence
            yield Piece(update.text, len(update.token_ids), sequence.finish_reason, sequence.error)
