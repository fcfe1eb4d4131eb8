"""Packed weights on disk: the same model from them, and never one made of something else."""

import logging
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import quire.weights.build as build
from paged_steps import PagedModel
from quire.core.config import ModelConfig
from quire.kernels.select import select_ops
from quire.models.decoder import Decoder
from quire.platform.detect import detect
from quire.weights import packed
from quire.weights.checkpoint import open_checkpoint
from quire.weights.hf_config import read_hf_config
from quire.weights.packed import PackedWeights
from tiny_models import save_tiny_model

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


class Starts:
    """Of one checkpoint, which counts how often it was read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checkpoint, self.kept, self.read = folder / "model", folder / "kept", 0
        load = build.load_weights

        def counted(*arguments: Any) -> None:
            self.read += 1
            load(*arguments)

        monkeypatch.setattr(build, "load_weights", counted)

    def files(self) -> list[Path]:
        return sorted(self.kept.iterdir())

    @torch.inference_mode()
    def model(
        self, quantization: Any = None, dtype: torch.dtype = torch.bfloat16, **options: Any
    ) -> Decoder:
        caps = detect("cpu")
        options |= {"quantization": quantization, "packed_weights_dir": str(self.kept)}
        config = ModelConfig(str(self.checkpoint), **options)
        hf_config = read_hf_config(self.checkpoint).config
        made = build.build_model(
            config, self.checkpoint, hf_config, select_ops(caps), caps, 128, dtype, False
        )
        assert isinstance(made, Decoder)
        return made

    def logits(self, quantization: Any = None, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return PagedModel(self.model(quantization, dtype)).step([(0, IDS)])[0]


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    save_tiny_model("llama", tmp_path / "model")
    return Starts(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        (None, torch.bfloat16),
        (None, torch.float32),
        ("int8", torch.bfloat16),
        ("int4", torch.bfloat16),
    ],
)
def test_a_later_start_maps_what_the_first_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, quantization: Any, dtype: Any
) -> None:
    save_tiny_model(name, tmp_path / "model")
    starts = Starts(tmp_path, monkeypatch)
    first, again = (starts.logits(quantization, dtype) for _ in range(2))
    assert torch.equal(first, again)
    assert starts.read == 1
    (file,) = starts.files()
    model = starts.model(quantization, dtype)  # while it lives its file is mapped
    assert str(file) in Path("/proc/self/maps").read_text()
    size = sum(parameter.nbytes for parameter in model.parameters())
    assert size < file.stat().st_size < size + 200_000


def test_each_quantization_has_its_file(starts: Starts) -> None:
    for quantization in (None, "int8", "int4", None, "int8"):
        starts.logits(quantization)
    assert (starts.read, len(starts.files())) == (3, 3)


def test_nothing_else_is_taken_and_it_is_written_anew(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = starts.logits()
    (file,), (weights,) = starts.files(), open_checkpoint(starts.checkpoint, "auto").paths
    whole = file.read_bytes()

    def remade() -> bool:
        before = starts.read
        assert torch.equal(starts.logits(), first)
        assert starts.files() == [file]
        once = starts.read
        assert torch.equal(starts.logits(), first)
        assert starts.read == once
        return once == before + 1

    os.utime(weights, ns=(1, 1))
    assert remade()  # the checkpoint was replaced
    os.truncate(file, len(whole) // 2)
    assert remade()
    file.write_bytes(b"{" + bytes(len(whole) - 1))
    assert remade()
    monkeypatch.setattr(packed, "LAYOUT", packed.LAYOUT + 1)
    assert remade()
    monkeypatch.setattr(packed, "__version__", "0.0.0")
    assert remade()
    assert not remade()


def test_another_checkpoint_in_its_place_gives_its_own_weights(starts: Starts) -> None:
    first = starts.logits()
    save_tiny_model("llama", starts.checkpoint, seed=1)
    second = starts.logits()
    assert not torch.equal(first, second)
    assert torch.equal(second, starts.logits())
    assert starts.read == 2


@contextmanager
def no_large_files() -> Iterator[None]:
    """A file may grow to 8 KiB: what a disk does that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_the_start_goes_on(
    starts: Starts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("quire"), "propagate", True)
    with no_large_files():
        assert starts.logits().isfinite().all()
    assert "cannot keep packed weights" in caplog.text
    assert starts.files() == []


def test_a_folder_that_cannot_be_is_told_and_the_start_goes_on(
    starts: Starts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("quire"), "propagate", True)
    starts.kept.write_text("a file")
    assert starts.logits().isfinite().all()
    assert "File exists" in caplog.text


def test_where_it_is_of_no_use_it_says_so(
    starts: Starts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("quire"), "propagate", True)
    starts.model(load_format="dummy")
    assert "packed_weights_dir is not used" in caplog.text
    assert not starts.kept.exists()


def test_two_starts_at_once_leave_one_whole_file(starts: Starts) -> None:
    model = starts.model()
    (file,) = starts.files()
    whole = file.read_bytes()
    hf_config = read_hf_config(starts.checkpoint).config
    checkpoint = open_checkpoint(starts.checkpoint, "auto")
    many = [PackedWeights(starts.kept, model, checkpoint, hf_config) for _ in range(4)]
    threads = [threading.Thread(target=one.keep) for one in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [starts.files(), file.read_bytes()] == [[file], whole]
