"""Opening a tokenizer directly and through transformers gives the same ids and texts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from quire.core.errors import CheckpointError, ModelNotFoundError, RequestError
from quire.text.load import _open_directly, _open_with_transformers, load_tokenizer
from quire.text.tokenizer import Tokenizer

TEXTS = [
    "",
    " ",
    "Hello, my name is",
    "  two leading spaces, and trailing  ",
    "안녕하세요 서울! 東京 🙂 naïve",
    "<|im_start|>user\nHello<|im_end|>\n<tool_call>{}</s>",
    "line\n\nbreaks\tand tabs\r\n",
    "unknown: ௵ ꙮ 𒐫",
]


def direct(directory: Path) -> Tokenizer | None:
    return _open_directly(directory)


def test_direct_agrees_with_transformers(tokenizer_directory: Path) -> None:
    mine = direct(tokenizer_directory)
    assert mine is not None
    theirs = AutoTokenizer.from_pretrained(tokenizer_directory)
    wrapped = _open_with_transformers(tokenizer_directory)
    for text in TEXTS:
        for special in (True, False):
            expected = theirs.encode(text, add_special_tokens=special)
            assert mine.encode(text, add_special_tokens=special) == expected
            assert wrapped.encode(text, add_special_tokens=special) == expected
        ids = theirs.encode(text)
        for skip in (True, False):
            expected = theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
            assert mine.decode(ids, skip_special_tokens=skip) == expected
            assert wrapped.decode(ids, skip_special_tokens=skip) == expected
    for one in (mine, wrapped):
        assert len(one) == len(theirs)
        assert one.eos_token_id == theirs.eos_token_id
        assert set(theirs.all_special_ids) <= one.special_ids
        assert one.facts.special_tokens == theirs.special_tokens_map


def test_token_text_is_decode_of_one(tokenizer_directory: Path) -> None:
    tokenizer = direct(tokenizer_directory)
    assert tokenizer is not None
    if tokenizer.pieces(False) is None:
        assert all(tokenizer.token_text(i) == tokenizer.decode([i]) for i in range(len(tokenizer)))
    else:  # the piece keeps the space that decoding a text's first token drops
        for token_id in range(len(tokenizer)):
            text = tokenizer.token_text(token_id)
            assert text.lstrip() == tokenizer.decode([token_id]).lstrip()


def test_python_tokenizer(tmp_path: Path) -> None:
    """A tokenizer class without a `tokenizers` backend."""
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4, "c": 5, "|": 6}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer"})
    )
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    tokenizer = load_tokenizer(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("ab c") == theirs.encode("ab c")
    assert tokenizer.decode([3, 4, 6, 5]) == theirs.decode([3, 4, 6, 5])
    assert tokenizer.decode([3, 999]) == theirs.decode([3])


@pytest.mark.parametrize(
    ("change", "opens"),
    [
        ({"tokenizer_class": "GPT2Tokenizer"}, False),
        ({"tokenizer_class": None}, False),
        ({"auto_map": {"AutoTokenizer": ["a.B", None]}}, False),
        ({"add_bos_token": False, "add_eos_token": False}, True),
        ({"add_bos_token": True}, False),
        ({"split_special_tokens": True}, False),
        ({"eos_token": "one"}, False),
        ({"mask_token": "<mask>"}, False),
        ({"extra_special_tokens": ["<|im_end|>"]}, True),
        ({"extra_special_tokens": ["<new>"]}, False),
        ({"clean_up_tokenization_spaces": True}, True),
    ],
)
def test_doubt_goes_to_transformers(
    tokenizer_directories: dict[str, Path], tmp_path: Path, change: dict, opens: bool
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(tokenizer_directories["byte_level"], directory)
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert (direct(directory) is not None) == opens
    if "auto_map" in change:
        return
    tokenizer = load_tokenizer(directory)
    theirs = AutoTokenizer.from_pretrained(directory)
    for text in TEXTS:
        assert tokenizer.encode(text) == theirs.encode(text)


def test_legacy_special_tokens_map(tokenizer_directories: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(tokenizer_directories["byte_level"], directory)
    (directory / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    tokenizer = direct(directory)
    assert tokenizer is not None
    assert tokenizer.eos_token_id == AutoTokenizer.from_pretrained(directory).eos_token_id


def test_chat_template_sources(tokenizer_directories: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(tokenizer_directories["byte_level"], directory)
    file = directory / "tokenizer_config.json"
    config = json.loads(file.read_text())
    named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    for value, expected in (("X", "X"), (named, {"default": "D", "tool_use": "T"}), (None, None)):
        file.write_text(json.dumps(config | {"chat_template": value}))
        for tokenizer in (
            direct(directory),
            _open_with_transformers(directory),
        ):
            assert tokenizer is not None
            assert tokenizer.chat_template == expected
    (directory / "chat_template.jinja").write_text("J")
    tokenizer = direct(directory)
    assert tokenizer is not None
    assert tokenizer.chat_template == "J"
    assert AutoTokenizer.from_pretrained(directory).chat_template == "J"
    (directory / "additional_chat_templates").mkdir()
    (directory / "additional_chat_templates" / "tool_use.jinja").write_text("U")
    tokenizer = direct(directory)
    assert tokenizer is not None
    assert tokenizer.chat_template == {"default": "J", "tool_use": "U"}
    assert AutoTokenizer.from_pretrained(directory).chat_template == tokenizer.chat_template


def test_hf_is_separate(tokenizer_directories: dict[str, Path]) -> None:
    for tokenizer in (
        direct(tokenizer_directories["byte_level"]),
        _open_with_transformers(tokenizer_directories["byte_level"]),
    ):
        assert tokenizer is not None
        text = "one two three four"
        assert len(tokenizer.hf().encode(text, truncation=True, max_length=2)) == 2
        assert len(tokenizer.encode(text)) > 2


def test_bad_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer .*--tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_text_that_is_not_text(tokenizer_directories: dict[str, Path]) -> None:
    tokenizer = direct(tokenizer_directories["byte_level"])
    assert tokenizer is not None
    with pytest.raises(RequestError, match="surrogate at character 1"):
        tokenizer.encode("a\ud800b")
    with pytest.raises(RequestError, match="must be a string, got int"):
        tokenizer.encode(5)  # type: ignore[arg-type]


def test_opening_directly_imports_neither_torch_nor_transformers(
    tokenizer_directories: dict[str, Path],
) -> None:
    program = (
        "import sys; from pathlib import Path; from quire.text.load import load_tokenizer;"
        "from quire.text.detokenizer import make_detokenizer; import quire.text.chat;"
        f"t = load_tokenizer(Path({str(tokenizer_directories['llama_like'])!r}));"
        "make_detokenizer(t).feed(t.encode('Hello'));"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
