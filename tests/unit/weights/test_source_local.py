"""Names that mean a directory, and names that mean nothing."""

from pathlib import Path

import pytest

from quire.core.config import BOXED_MODEL, ModelConfig
from quire.core.errors import CheckpointError, ModelNotFoundError
from quire.weights.source import ModelSource, fetch_small_files, fetch_weights


def make(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).write_text("{}")
    return folder


def test_a_directory_is_its_own_source(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "config.json", "model.safetensors")
    assert fetch_small_files(ModelSource(str(folder))) == folder
    assert fetch_weights(ModelSource(str(folder))) == folder


def test_a_relative_directory_with_one_slash_is_no_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "owner" / "name", "config.json")
    monkeypatch.chdir(tmp_path)
    assert fetch_small_files(ModelSource("owner/name")) == folder


def test_the_boxed_model_is_package_data() -> None:
    folder = fetch_small_files(ModelSource(BOXED_MODEL), required="tokenizer.json")
    assert folder.parent.name == "quire"


@pytest.mark.parametrize(
    "name",
    [
        "/no/such/place",
        "./here",
        "../there",
        "~/nowhere-at-all",
        "~nobody-here/x",
        "a/b/c",
        "",
        "a//b",
        "a/b/c" * 999,
        "/a\0b",
    ],
)
def test_what_cannot_be_a_hub_id(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no such directory") as caught:
        fetch_small_files(ModelSource(name))
    assert repr(name) in str(caught.value)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    file = make(tmp_path, "model.gguf") / "model.gguf"
    with pytest.raises(ModelNotFoundError, match="is a file; give the folder"):
        fetch_small_files(ModelSource(str(file)))


def test_a_directory_without_config_hints_at_the_one_inside(tmp_path: Path) -> None:
    make(tmp_path / "snapshot", "config.json")
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json") as caught:
        fetch_small_files(ModelSource(str(tmp_path)))
    assert str(tmp_path / "snapshot") in str(caught.value)


def test_weights_must_be_there(tmp_path: Path) -> None:
    source = ModelSource(str(make(tmp_path, "config.json")))
    with pytest.raises(CheckpointError, match="no weight files"):
        fetch_weights(source)


def test_the_tokenizer_may_live_elsewhere() -> None:
    config = ModelConfig("a/b", revision="r", tokenizer="c/d", tokenizer_revision="s")
    tokenizer = ModelSource.of_tokenizer(config)
    assert (tokenizer.name, tokenizer.revision) == ("c/d", "s")
    same = ModelSource.of_tokenizer(ModelConfig("a/b", revision="r"))
    assert (same.name, same.revision) == ("a/b", "r")
