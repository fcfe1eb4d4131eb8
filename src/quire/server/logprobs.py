"""Log-probabilities in the two shapes of OpenAI's API, and the prompt's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quire.core.outputs import Logprob, PromptLogprobs
from quire.text.tokenizer import Tokenizer

FLOOR = -9999.0  # what JSON says for minus infinity


@dataclass(frozen=True, slots=True)
class TokenWriter:
    """How tokens are written: their text, or "token_id:N"."""

    tokenizer: Tokenizer
    as_ids: bool = False

    def text(self, token_id: int) -> str:
        if self.as_ids:
            return f"token_id:{token_id}"
        return self.tokenizer.token_text(token_id)

    def raw(self, token_id: int) -> list[int]:
        """Its bytes: the true ones where the tokenizer knows them, so that the parts of a
        character can be put together."""
        if self.as_ids:
            return list(self.text(token_id).encode())
        pieces = self.tokenizer.pieces(skip_special_tokens=False)
        if pieces is None:
            return list(self.tokenizer.token_text(token_id).encode())
        return list(pieces[token_id])


def chat_logprobs(
    positions: Iterable[dict[int, Logprob]], num_top: int, writer: TokenWriter
) -> list[dict[str, Any]]:
    """`choice.logprobs.content` of chat. Exactly `num_top` entries a position (-1: all there
    are), the token itself first."""
    content = []
    for position in positions:
        entries = [_entry(i, logprob, writer) for i, logprob in position.items()]
        top = entries if num_top < 0 else entries[:num_top]
        content.append({**entries[0], "top_logprobs": top})
    return content


def _entry(token_id: int, logprob: Logprob, writer: TokenWriter) -> dict[str, Any]:
    return {
        "token": writer.text(token_id),
        "logprob": finite(logprob.logprob),
        "bytes": writer.raw(token_id),
    }


class CompletionLogprobs:
    """`choice.logprobs` of completions, for one choice, in one or several parts: text offsets
    go on from one part to the next."""

    def __init__(self, writer: TokenWriter, num_top: int) -> None:
        self._writer = writer
        self._num_top = num_top
        self._offset = 0

    def part(
        self, *runs: tuple[Sequence[int], Sequence[dict[int, Logprob] | None]]
    ) -> dict[str, Any]:
        """The next tokens, as runs of (token ids, their positions). A position without
        log-probabilities (a prompt's first) is null."""
        offsets, tokens = [], []
        own: list[float | None] = []
        top: list[dict[str, float] | None] = []
        for token_id, position in (each for run in runs for each in zip(*run, strict=True)):
            text = self._writer.text(token_id)
            offsets.append(self._offset)
            self._offset += len(text)
            tokens.append(text)
            own.append(None if position is None else finite(position[token_id].logprob))
            top.append(None if position is None else self._top(position))
        return {
            "text_offset": offsets,
            "token_logprobs": own,
            "tokens": tokens,
            "top_logprobs": top,
        }

    def _top(self, position: dict[int, Logprob]) -> dict[str, float]:
        most = len(position) if self._num_top < 0 else self._num_top + 1
        return {
            self._writer.text(i): finite(logprob.logprob)
            for i, logprob in list(position.items())[:most]
        }


def prompt_logprobs_body(positions: PromptLogprobs | None) -> list[Any] | None:
    """`prompt_logprobs`: one object a position, by token id; the first is null."""
    if positions is None:
        return None
    return [
        position
        and {
            str(token_id): {
                "logprob": finite(entry.logprob),
                "rank": entry.rank,
                "decoded_token": entry.decoded_token,
            }
            for token_id, entry in position.items()
        }
        for position in positions
    ]


def finite(value: float) -> float:
    """JSON has no infinity."""
    return value if math.isfinite(value) else FLOOR
