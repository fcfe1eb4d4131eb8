"""Readers of checkpoint files: one tensor after another, never a file's worth of memory.

Safetensors files are read with plain positioned reads into the caller's memory rather than
mapped: pages of a mapped file count as this process's memory until it is unmapped, which would
double what a loading model seems to use, and network file systems serve reads far better than
page faults. Torch's own files hold a pickle, which is read by torch's restricted unpickler
only. Runs in the worker; `read_into` may be called by several threads at once.
"""

import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from quire.core.errors import CheckpointError, one_line
from quire.weights import files

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_LFS_POINTER = b"version https://git-lfs"

# The names in a safetensors header; https://github.com/huggingface/safetensors, "Format".
SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a checkpoint, still on disk. Valid while its file is open.

    `read_into(out, start, stop)` fills `out` [stop - start], on the CPU, contiguous and of the
    entry's dtype, with elements [start, stop) of the flattened tensor; it raises
    CheckpointError where the file ends early or cannot be read.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    path: Path
    read_into: Callable[[Tensor, int, int], None]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weight files of a model, in order."""

    paths: tuple[Path, ...]

    @property
    def total_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def shards(self) -> Iterator[list[TensorEntry]]:
        """The entries of one file after the other.

        A file is closed, and its entries become invalid, when the next one is asked for.

        Raises:
            CheckpointError: a file is truncated, corrupt, unsafe, or repeats a tensor's name.
        """
        owner: dict[str, Path] = {}
        for path in self.paths:
            opened = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
            with opened as entries:
                for entry in entries:
                    if entry.name in owner:
                        raise CheckpointError(
                            f"tensor {entry.name} is in both {owner[entry.name]} and {path.name}; "
                            "remove the file that does not belong to the checkpoint"
                        )
                    owner[entry.name] = path
                yield entries


def open_checkpoint(directory: Path, load_format: str) -> Checkpoint:
    """The checkpoint in `directory`.

    Raises:
        CheckpointError: no weights, or a shard is missing (named), truncated or unsafe.
    """
    return Checkpoint(tuple(files.select_local(directory, load_format)))


@contextmanager
def _safetensors(path: Path) -> Iterator[list[TensorEntry]]:
    """Eight bytes of header length, a JSON header, the tensors' bytes.

    Format: https://github.com/huggingface/safetensors#format
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    with file:
        yield _safetensors_entries(path, file.fileno())


def _safetensors_entries(path: Path, file: int) -> list[TensorEntry]:
    size = os.fstat(file).st_size
    start = os.pread(file, 64, 0)
    if start.startswith(_LFS_POINTER):
        raise CheckpointError(_lfs_message(path))
    if len(start) < 8:
        raise CheckpointError(f"{path} is truncated: it has {size} bytes; download it again")
    length = struct.unpack("<Q", start[:8])[0]
    if length > min(_MAX_HEADER_BYTES, size - 8):
        raise CheckpointError(
            f"{path} is truncated or no safetensors file: its header should be {length} "
            f"bytes and the file has {size}; download it again"
        )
    found: list[tuple[int, TensorEntry]] = []  # with the offset of the first element
    try:
        header = json.loads(os.pread(file, length, 8))
        header.pop("__metadata__", None)
        for name, item in header.items():
            offset = 8 + length + item["data_offsets"][0]
            found.append((offset, _safetensors_entry(path, file, name, item, offset)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} has a corrupt safetensors header ({error!r}); download it again"
        ) from None
    end = max((offset + entry.nbytes for offset, entry in found), default=8 + length)
    if end > size:
        raise CheckpointError(
            f"{path} is truncated: it has {size} bytes of {end}; download it again"
        )
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _safetensors_entry(
    path: Path, file: int, name: str, item: dict[str, Any], offset: int
) -> TensorEntry:
    if item["dtype"] not in SAFETENSORS_DTYPES:
        raise ValueError(f"tensor {name} has unknown dtype {item['dtype']}")
    dtype = SAFETENSORS_DTYPES[item["dtype"]]

    def read_into(out: Tensor, start: int, stop: int) -> None:
        view = out.view(torch.uint8).numpy().data
        position = offset + start * dtype.itemsize
        while view:
            try:
                count = os.preadv(file, [view], position)
            except OSError as error:
                raise CheckpointError(f"{path} cannot be read: {error}") from None
            if count == 0:
                raise CheckpointError(
                    f"{path} ended at byte {position} inside tensor {name}; "
                    "was it replaced while loading?"
                )
            view, position = view[count:], position + count

    begin, end = item["data_offsets"]
    shape = tuple(int(size) for size in item["shape"])
    entry = TensorEntry(name, shape, dtype, path, read_into)
    if begin < 0 or min(shape, default=0) < 0 or entry.nbytes != end - begin:
        raise ValueError(f"tensor {name} has {end - begin} bytes, not {entry.nbytes}")
    return entry


@contextmanager
def _torch_file(path: Path) -> Iterator[list[TensorEntry]]:
    """One file of `torch.save`, through the restricted unpickler.

    The zip format is mapped, not read. The format from before torch 1.6 cannot be: such a file
    is held in memory whole while its tensors are placed.
    """
    entries = []
    for name, value in _load_torch(path).items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} is not a model's state dict: {name!r} is a {type(value).__name__}; "
                "save the model's state_dict() alone"
            )
        shape = tuple(value.shape)
        entries.append(
            TensorEntry(str(name), shape, value.dtype, path, _tensor_reader(value.detach()))
        )
    try:
        yield entries
    finally:
        entries.clear()  # whoever keeps the list does not keep the file mapped


def _tensor_reader(tensor: Tensor) -> Callable[[Tensor, int, int], None]:
    tensor = tensor.unsqueeze(0) if tensor.ndim == 0 else tensor
    row = max(1, prod(tensor.shape[1:]))

    def read_into(out: Tensor, start: int, stop: int) -> None:
        # Only the rows asked for: flattening a tensor that is not contiguous copies it whole.
        first = start // row
        rows = tensor[first : -(-stop // row)].reshape(-1)
        out.copy_(rows[start - first * row : stop - first * row])

    return read_into


def _load_torch(path: Path) -> dict[str, object]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise CheckpointError(_lfs_message(path))
    try:
        value = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except UnpicklingError as error:
        raise CheckpointError(_unsafe_or_corrupt(path, error, size)) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is truncated or corrupt ({size} bytes: {one_line(error, 200)}); "
            "download it again"
        ) from None
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path} is not a model's state dict but a {type(value).__name__}; "
            "save the model's state_dict() alone"
        )
    return value


def _unsafe_or_corrupt(path: Path, error: UnpicklingError, size: int) -> str:
    text = str(error)
    for mark in ("Unsupported global: GLOBAL ", "GLOBAL ", "class "):
        if mark in text:
            culprit = text.split(mark, 1)[1].split()[0].rstrip(".,:;")
            return (
                f"{path} asks to run Python code ({culprit}) and was not read; "
                "use a safetensors checkpoint of this model"
            )
    return (
        f"{path} is truncated or corrupt, or asks to run Python code ({size} bytes: "
        f"{one_line(error, 200)}); download it again, or use a safetensors checkpoint"
    )


def _lfs_message(path: Path) -> str:
    return f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder"
