"""The deltas of a sequence, joined, are the text its tokens add to the prompt's."""

import random
import re
from pathlib import Path

import pytest

from quire.text.detokenizer import PieceDetokenizer, WindowDetokenizer, make_detokenizer
from quire.text.load import load_tokenizer
from quire.text.tokenizer import Tokenizer

SENTENCES = [
    "Hello, my name is Quire. I serve <|im_end|> models</s> <tool_call>{}",
    "안녕하세요! 서울은 대한민국의 수도입니다. 東京は日本の首都です。",
    "naïve café 🙂👩‍👩‍👧 e\u0301 ok",
    "don't stop . now , please !",
]


@pytest.fixture
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


def stream(tokenizer: Tokenizer, ids: list[int], cuts: random.Random, skip: bool, prompt=()):
    detokenizer = make_detokenizer(tokenizer, prompt, skip_special_tokens=skip)
    deltas = []
    at = 0
    while at < len(ids):
        step = cuts.choice((1, 1, 1, 2, 5))
        deltas.append(detokenizer.feed(ids[at : at + step]))
        at += step
    deltas.append(detokenizer.finish())
    return deltas


def expected_text(tokenizer: Tokenizer, ids: list[int], skip: bool) -> str:
    """Decoding the whole; where a run of byte tokens is invalid UTF-8, its characters are kept
    (the library would replace every byte of the run)."""
    tokens = [tokenizer._backend.id_to_token(i) for i in ids if i <= tokenizer.max_token_id]
    if not any(re.fullmatch("<0x[0-9A-F]{2}>", token or "") for token in tokens):
        return tokenizer.decode(ids, skip_special_tokens=skip)
    kept = [i for i in ids if not (skip and i in tokenizer.special_ids)]
    out = b""
    for token_id in kept:
        token = tokenizer._backend.id_to_token(token_id)
        if token is None:
            continue
        byte = re.fullmatch("<0x([0-9A-F]{2})>", token)
        out += bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()
    return out.decode("utf-8", "replace").removeprefix(" ")


@pytest.mark.parametrize("skip", [True, False])
def test_text_streams_to_its_decoding(tokenizer: Tokenizer, skip: bool) -> None:
    cuts = random.Random(1)
    for sentence in SENTENCES:
        ids = tokenizer.encode(sentence, add_special_tokens=False)
        assert "".join(stream(tokenizer, ids, cuts, skip)) == tokenizer.decode(
            ids, skip_special_tokens=skip
        )


@pytest.mark.parametrize("skip", [True, False])
def test_random_ids(tokenizer: Tokenizer, skip: bool) -> None:
    """Byte soup, specials, ids that stand for nothing; cut anywhere."""
    generator = random.Random(2)
    for _ in range(150):
        ids = [generator.randrange(tokenizer.vocab_size + 3) for _ in range(30)]
        text = "".join(stream(tokenizer, ids, generator, skip))
        assert text == expected_text(tokenizer, ids, skip)


@pytest.mark.parametrize("kind", ["byte_level", "llama_like"])
def test_random_bytes(tokenizer_directories: dict[str, Path], kind: str) -> None:
    """Any bytes, valid UTF-8 or not, give the same however they are cut."""
    tokenizer = load_tokenizer(tokenizer_directories[kind])
    pieces = tokenizer.pieces(True)
    assert pieces is not None
    byte_tokens = [i for i in range(tokenizer.vocab_size) if len(pieces[i]) == 1]
    assert len(byte_tokens) >= 256
    generator = random.Random(3)
    for _ in range(150):
        ids = generator.choices(byte_tokens, k=25)
        text = "".join(stream(tokenizer, ids, generator, True))
        assert text == expected_text(tokenizer, ids, True)


def test_no_partial_character_is_shown(tokenizer: Tokenizer) -> None:
    generator = random.Random(4)
    for sentence in SENTENCES:
        ids = tokenizer.encode(sentence, add_special_tokens=False)
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        shown = ""
        for delta in stream(tokenizer, ids, generator, True):
            shown += delta
            assert whole.startswith(shown)


def test_continues_the_prompt(tokenizer: Tokenizer) -> None:
    """Text and prompt join without a lost or doubled space, at every cut between characters."""
    generator = random.Random(5)
    for sentence in SENTENCES:
        ids = tokenizer.encode(sentence)
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        for cut in range(len(ids) + 1):
            prompt = tokenizer.decode(ids[:cut], skip_special_tokens=True)
            if not whole.startswith(prompt):
                continue  # the prompt ends in the middle of a character
            text = "".join(stream(tokenizer, ids[cut:], generator, True, prompt=ids[:cut]))
            assert prompt + text == whole


def test_prompt_ends_inside_a_character(tokenizer_directories: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(tokenizer_directories["byte_level"])
    ids = tokenizer.encode("x🙂!")
    for cut in range(1, len(ids) - 1):
        text = "".join(stream(tokenizer, ids[cut:], random.Random(6), True, prompt=ids[:cut]))
        assert text in ("🙂!", "!")


def test_which_class(tokenizer_directories: dict[str, Path]) -> None:
    """The fast class is used where it should be, the window elsewhere."""
    kinds = {
        kind: type(make_detokenizer(load_tokenizer(directory)))
        for kind, directory in tokenizer_directories.items()
    }
    window = {"word_piece", "word_level", "bpe_suffix"}
    assert kinds == {k: WindowDetokenizer if k in window else PieceDetokenizer for k in kinds}


def test_special_tokens_without_spaces(tokenizer_directories: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(tokenizer_directories["word_level"])
    ids = tokenizer.encode("one <|im_end|> <|im_end|> two")
    for spaces, expected in (
        (True, "one <|im_end|> <|im_end|> two"),
        (False, "one <|im_end|><|im_end|> two"),
    ):
        detokenizer = make_detokenizer(
            tokenizer, skip_special_tokens=False, spaces_between_special_tokens=spaces
        )
        assert detokenizer.feed(ids) + detokenizer.finish() == expected


def test_window_gives_up_waiting(tokenizer_directories: dict[str, Path]) -> None:
    """A token that decodes to U+FFFD for good does not hold the text back for ever."""
    tokenizer = load_tokenizer(tokenizer_directories["byte_level"])
    byte = tokenizer.token_id("ì")  # 0xEC, the first of three bytes
    assert byte is not None
    detokenizer = WindowDetokenizer(tokenizer, [], True, {})
    text = "".join(detokenizer.feed([byte]) for _ in range(100))
    assert len(text) > 80
