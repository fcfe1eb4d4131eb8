"""The boxed model's tokens, in a vocabulary padded as models pad theirs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import quire.boxed
from quire.core.structured_outputs import StructuredOutputsParams
from quire.engine.tokenizer import vocabulary_of
from quire.structured.check import grammar_of
from quire.structured.grammars import Grammars
from quire.structured.state import Matcher
from quire.structured.vocabulary import Vocabulary
from quire.text.load import load_tokenizer
from quire.text.tokenizer import Tokenizer

PADDING = 77


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer(Path(quire.boxed.__path__[0]))


@pytest.fixture(scope="session")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    size = tokenizer.max_token_id + 1 + PADDING
    return vocabulary_of(tokenizer, size, (2, 0))


@pytest.fixture
def grammars(vocabulary: Vocabulary) -> Iterator[Grammars]:
    made = Grammars(lambda: vocabulary, timeout=0.5)
    yield made
    made.close()


class Text:
    """Follows texts through a grammar."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary

    def matcher(self, **constraint: object) -> Matcher:
        params = StructuredOutputsParams(**constraint)  # type: ignore[arg-type]
        return Matcher.compile(grammar_of(params, self.vocabulary.special_tokens), self.vocabulary)

    def allowed(self, matcher: Matcher) -> set[int]:
        mask = matcher.next_mask()
        if mask is None:
            return set(self.vocabulary.eos_token_ids)
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
        return set(np.flatnonzero(bits).tolist())

    def follow(self, text: str, **constraint: object) -> str:
        """ "refused", "open" (more must come), "accepted" (more may come) or "complete"."""
        matcher = self.matcher(**constraint)
        for token_id in self.tokenizer.encode(text, add_special_tokens=False):
            if matcher.complete or token_id not in self.allowed(matcher):
                return "refused"
            matcher.consume([token_id])
        if matcher.complete:
            return "complete"
        allowed = self.allowed(matcher)
        eos = set(self.vocabulary.eos_token_ids)
        if allowed == eos:
            return "complete"
        return "accepted" if eos <= allowed else "open"


@pytest.fixture
def text(tokenizer: Tokenizer, vocabulary: Vocabulary) -> Text:
    return Text(tokenizer, vocabulary)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Take a grammar's news until something holds."""

    def wait(grammars: Grammars, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        for _ in range(int(seconds / 0.01)):
            grammars.news()
            if condition():
                return
            grammars.wait(0.01)
        raise AssertionError("it did not happen in time")

    return wait
