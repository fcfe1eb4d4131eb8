"""Pieces of text become tokens that, put together, are exactly the piece."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

import quire.boxed
from quire.text.continuation import ContinuationEncoder
from quire.text.load import load_tokenizer
from quire.text.pieces import piece_table

TEXTS = ["hello", " hello", '{"a": 1}', "한국", "a\nb", "<tool_call>", "\n", " ", ""]


@pytest.mark.parametrize("text", [*TEXTS, "<|im_end|>"])
def test_byte_level(text: str) -> None:
    tokenizer = load_tokenizer(Path(quire.boxed.__path__[0]))
    encode = tokenizer.continuation_encoder()
    pieces = tokenizer.pieces(skip_special_tokens=False)
    assert encode is not None
    assert pieces is not None
    ids = encode(text)
    assert b"".join(pieces[i] for i in ids) == text.encode()
    assert not set(ids) & tokenizer.special_ids, "a special token is not text"
    if text != "<|im_end|>":
        assert ids == tokenizer.encode(text, add_special_tokens=False)


def llama_like() -> Tokenizer:
    """A space in front of every text, bytes for what it does not know."""
    words = ["▁", "a", "b", "ab", "▁ab", "▁a", '"', "{"]
    vocab = {word: i for i, word in enumerate(["<unk>", *words])}
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    merges = [("a", "b"), ("▁", "ab"), ("▁", "a")]
    backend = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens([AddedToken("<s>", special=True)])
    return backend


@pytest.mark.parametrize("text", ["ab", " ab", "abab", "a b", '{"ab', "é", "x\ny", ""])
def test_no_space_is_added_within_a_text(text: str) -> None:
    backend = llama_like()
    tables = piece_table(backend, frozenset({backend.token_to_id("<s>")}))
    assert tables is not None
    ids = ContinuationEncoder(backend, tables.all).encode(text)
    assert b"".join(tables.all[i] for i in ids) == text.encode()
    if text == "ab":
        assert [backend.id_to_token(i) for i in ids] == ["ab"]
