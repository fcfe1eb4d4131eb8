"""detect(): the devices of this machine, and one clear line for those it has not."""

import sys

import psutil
import pytest
import torch

from quire.core.errors import ConfigError
from quire.platform import detect as detect_module
from quire.platform.caps import DeviceCaps
from quire.platform.detect import cuda_missing, detect, triton_missing
from quire.platform.memory import (
    free_bytes,
    measured,
    total_bytes,
    unreserved_bytes,
    zeros,
)
from quire.platform.streams import Event, empty_cache, pinned, set_device, synchronize

CUDA = torch.cuda.is_available()
DEVICES = ["cpu", "cuda"] if CUDA else ["cpu"]


def test_cpu() -> None:
    caps = detect("cpu")
    assert (caps.kind, caps.torch_device, caps.compute_capability) == ("cpu", "cpu", None)
    assert caps.name
    assert caps.num_cores >= 1
    assert 0 < caps.free_memory <= caps.total_memory
    assert not caps.triton
    assert caps.triton_missing


def test_auto_is_a_gpu_where_torch_can_use_one() -> None:
    assert detect("auto").kind == ("cuda" if CUDA else "cpu")


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "mps", "cuda:0\n"]
)
def test_unknown_device(device: str) -> None:
    with pytest.raises(ConfigError, match="device must be auto, cpu, cuda or cuda:N"):
        detect(device)


@pytest.mark.skipif(CUDA, reason="needs a machine without a usable GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_gpu_says_why(device: str) -> None:
    with pytest.raises(ConfigError) as error:
        detect(device)
    assert f"device={device!r}" in str(error.value)
    assert str(cuda_missing()) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cuda_version", "driver", "count", "words"),
    [
        (None, False, 0, "CPU-only build"),
        ("13.0", False, 0, "no NVIDIA driver"),
        ("13.0", True, 0, "torch sees no GPU"),
        ("13.0", True, 1, "driver may be older"),
    ],
)
def test_reasons_for_no_cuda(
    monkeypatch: pytest.MonkeyPatch, cuda_version: str | None, driver: bool, count: int, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", cuda_version)
    monkeypatch.setattr(detect_module, "has_nvidia_driver", lambda: driver)
    assert words in str(cuda_missing())


def test_index_beyond_the_last_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"'cuda:7' does not exist: torch sees 2 CUDA devices"):
        detect("cuda:7")


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is packaged for Linux")
def test_triton_needs_a_compiler_and_a_recent_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "compute capability" in str(triton_missing((6, 1)))
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "no C compiler (no-such-compiler)" in str(triton_missing((9, 0)))
    monkeypatch.setenv("CC", sys.executable)  # any program that exists
    assert triton_missing((9, 0)) is None
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    assert "gcc or clang" in str(triton_missing((9, 0)))


@pytest.fixture(params=DEVICES)
def caps(request: pytest.FixtureRequest) -> DeviceCaps:
    return detect(request.param)


def test_memory_is_measured(caps: DeviceCaps) -> None:
    set_device(caps)
    assert 0 < free_bytes(caps) <= detect(caps.kind).total_memory
    if caps.kind == "cpu":
        return
    empty_cache(caps)
    left = unreserved_bytes(caps)
    with measured(caps) as took:
        block = torch.ones(256 << 20, dtype=torch.uint8, device=caps.torch_device)
        synchronize(caps)
    assert took.reserved >= took.tensors >= block.nbytes
    assert unreserved_bytes(caps) <= left - block.nbytes
    assert free_bytes(caps) < total_bytes(caps)
    del block
    empty_cache(caps)


def test_events_and_pinned_buffers(caps: DeviceCaps) -> None:
    host = pinned((4, 3), torch.int32, caps)
    assert host.shape == (4, 3)
    assert host.is_pinned() == (caps.kind == "cuda")
    host.fill_(7)
    copy = host.to(caps.torch_device, non_blocking=True)
    event = Event(torch.device(caps.torch_device))
    event.wait()
    assert event.ready()
    assert copy.sum().item() == 84


def test_threads_are_never_more_than_the_cores() -> None:
    caps = detect("cpu")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(caps.num_cores + 3)
        set_device(caps)
        assert torch.get_num_threads() == caps.num_cores
        torch.set_num_threads(1)
        set_device(caps)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int32])
def test_zeros(caps: DeviceCaps, dtype: torch.dtype) -> None:
    tensor = zeros((3, 2, 5, 7), dtype, caps)
    assert torch.equal(tensor, torch.zeros(3, 2, 5, 7, dtype=dtype, device=caps.torch_device))
    assert tensor.is_contiguous()
    assert tensor.data_ptr() % 64 == 0
    tensor[2, 1, 4, 6] = 1
    assert tensor.sum().item() == 1
    assert zeros((0, 2, 5, 7), dtype, caps).shape == (0, 2, 5, 7)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_zeros_are_not_resident_before_they_are_written() -> None:
    caps = detect("cpu")
    process = psutil.Process()
    before = process.memory_info().rss
    block = zeros((256 << 20,), torch.uint8, caps)
    assert process.memory_info().rss - before < 16 << 20
    assert block[-1].item() == 0
