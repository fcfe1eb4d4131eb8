"""Reading safetensors and torch files, whole, damaged and malicious."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from quire.core.errors import CheckpointError
from quire.weights.checkpoint import open_checkpoint

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).view(3, 4),
    "b": torch.arange(6).to(torch.bfloat16),
    "c": torch.tensor(3.5, dtype=torch.float16),
    "empty": torch.empty(0, 4),
    "eight": torch.arange(-3, 5).to(torch.float8_e4m3fn),
    "flags": torch.tensor([True, False]),
}


def read(folder: Path, load_format: str = "auto") -> dict[str, Tensor]:
    found = {}
    for entries in open_checkpoint(folder, load_format).shards():
        for entry in entries:
            flat = torch.empty(entry.nbytes // entry.dtype.itemsize, dtype=entry.dtype)
            if flat.numel():
                entry.read_into(flat, 0, flat.numel())
            found[entry.name] = flat.view(entry.shape)
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].float(), tensor.float())


def index(folder: Path, file: str, weight_map: dict[str, str]) -> None:
    (folder / file).write_text(json.dumps({"weight_map": weight_map}))


class TestSafetensors:
    def test_every_dtype_and_shape(self, tmp_path: Path) -> None:
        save_file(TENSORS, tmp_path / "model.safetensors")
        assert_same(read(tmp_path), TENSORS)

    def test_shards_by_index_and_without(self, tmp_path: Path) -> None:
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        save_file({"a": TENSORS["a"]}, tmp_path / names[0])
        save_file({"b": TENSORS["b"]}, tmp_path / names[1])
        save_file({"x": TENSORS["a"]}, tmp_path / "consolidated.safetensors")
        expected = {name: TENSORS[name] for name in "ab"}
        assert_same(read(tmp_path), expected)
        index(tmp_path, "model.safetensors.index.json", {"a": names[0], "b": names[1]})
        assert_same(read(tmp_path), expected)
        assert open_checkpoint(tmp_path, "auto").total_bytes == sum(
            (tmp_path / name).stat().st_size for name in names
        )

    def test_part_of_a_tensor(self, tmp_path: Path) -> None:
        save_file(TENSORS, tmp_path / "model.safetensors")
        (entries,) = [list(e) for e in open_checkpoint(tmp_path, "auto").shards()][:1] or [[]]
        assert {entry.name: entry.nbytes for entry in entries}["a"] == 48
        for shard in open_checkpoint(tmp_path, "auto").shards():
            entry = next(e for e in shard if e.name == "a")
            out = torch.empty(5)
            entry.read_into(out, 3, 8)
            assert out.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]

    def test_a_missing_shard_is_named(self, tmp_path: Path) -> None:
        save_file({"a": TENSORS["a"]}, tmp_path / "model-1.safetensors")
        index(
            tmp_path,
            "model.safetensors.index.json",
            {"a": "model-1.safetensors", "b": "model-2.safetensors"},
        )
        with pytest.raises(CheckpointError, match=r"model-2\.safetensors is missing from"):
            read(tmp_path)

    def test_a_broken_index(self, tmp_path: Path) -> None:
        save_file({"a": TENSORS["a"]}, tmp_path / "model-1.safetensors")
        (tmp_path / "model.safetensors.index.json").write_text("[]")
        with pytest.raises(CheckpointError, match="is not a checkpoint index"):
            read(tmp_path)

    @pytest.mark.parametrize("kept", [0, 5, 20, 400, -1])
    def test_truncation_names_the_file_and_its_size(self, tmp_path: Path, kept: int) -> None:
        path = tmp_path / "model.safetensors"
        save_file(TENSORS, path)
        data = path.read_bytes()[:kept]
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated") as caught:
            read(tmp_path)
        assert f"{len(data)} bytes" in str(caught.value) or f"has {len(data)}" in str(caught.value)

    @pytest.mark.parametrize(
        "header",
        [
            b"not json",
            b'{"a": 1}',
            b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
            b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-8, -4]}}',
            b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        ],
    )
    def test_corrupt_headers(self, tmp_path: Path, header: bytes) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
        with pytest.raises(CheckpointError, match="corrupt safetensors header") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)

    def test_a_git_lfs_pointer_is_recognised(self, tmp_path: Path) -> None:
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
        (tmp_path / "model.safetensors").write_bytes(pointer)
        with pytest.raises(CheckpointError, match="git lfs pull"):
            read(tmp_path)

    def test_a_tensor_in_two_files(self, tmp_path: Path) -> None:
        for number in (1, 2):
            save_file({"a": TENSORS["a"]}, tmp_path / f"model-{number}.safetensors")
        with pytest.raises(CheckpointError, match="tensor a is in both"):
            read(tmp_path)


class TestTorchFiles:
    def test_zip_and_old_format(self, tmp_path: Path) -> None:
        torch.save({"a": TENSORS["a"]}, tmp_path / "pytorch_model-1-of-2.bin")
        torch.save(
            {"b": TENSORS["b"]},
            tmp_path / "pytorch_model-2-of-2.bin",
            _use_new_zipfile_serialization=False,
        )
        assert_same(read(tmp_path), {name: TENSORS[name] for name in "ab"})

    def test_views_and_parts(self, tmp_path: Path) -> None:
        base = torch.arange(24.0).view(4, 6)
        torch.save({"t": base.t(), "cut": base[1:3, 2:]}, tmp_path / "pytorch_model.bin")
        found = read(tmp_path)
        assert torch.equal(found["t"], base.t())
        assert torch.equal(found["cut"], base[1:3, 2:])
        for shard in open_checkpoint(tmp_path, "auto").shards():
            out = torch.empty(3)
            next(e for e in shard if e.name == "t").read_into(out, 4, 7)
            assert out.tolist() == base.t().reshape(-1)[4:7].tolist()

    def test_safetensors_come_first_unless_asked(self, tmp_path: Path) -> None:
        save_file({"a": TENSORS["a"]}, tmp_path / "model.safetensors")
        torch.save({"b": TENSORS["b"]}, tmp_path / "pytorch_model.bin")
        assert set(read(tmp_path)) == {"a"}
        assert set(read(tmp_path, "safetensors")) == {"a"}
        assert set(read(tmp_path, "pt")) == {"b"}

    @pytest.mark.parametrize("old", [False, True])
    def test_code_is_not_run(self, tmp_path: Path, old: bool) -> None:
        marker = tmp_path / "ran"

        class Code:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                import os

                return os.system, (f"touch {marker}",)

        path = tmp_path / "pytorch_model.bin"
        torch.save({"a": Code()}, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(CheckpointError, match="asks to run Python code") as caught:
            read(tmp_path)
        assert "safetensors" in str(caught.value)
        assert "\n" not in str(caught.value)
        path.write_bytes(pickle.dumps({"a": Code()}, protocol=2))
        with pytest.raises(CheckpointError):
            read(tmp_path)
        assert not marker.exists()

    @pytest.mark.parametrize("old", [False, True])
    @pytest.mark.parametrize("kept", [0, 60, -30])
    def test_truncation(self, tmp_path: Path, kept: int, old: bool) -> None:
        path = tmp_path / "pytorch_model.bin"
        torch.save({"a": torch.rand(100)}, path, _use_new_zipfile_serialization=not old)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is truncated") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)

    def test_not_a_state_dict(self, tmp_path: Path) -> None:
        torch.save({"model": {"a": TENSORS["a"]}}, tmp_path / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="'model' is a dict"):
            read(tmp_path)
        torch.save([TENSORS["a"]], tmp_path / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="but a list"):
            read(tmp_path)


def test_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "model-q4.gguf").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"model-q4\.gguf, and GGUF is not supported yet"):
        read(tmp_path)
