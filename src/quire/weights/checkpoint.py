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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from torch import Tensor

from quire.core.errors import CheckpointError
from quire.weights import files
from quire.weights.dtypes import SAFETENSORS_DTYPES

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_LFS_POINTER = b"version https://git-lfs"


class TensorEntry(Protocol):
    """One tensor of a checkpoint, still on disk. Valid while its file's reader is open."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    path: Path

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        ...

    def read_into(self, out: Tensor, start: int, stop: int) -> None:
        """Fill `out` with elements [start, stop) of the flattened tensor.

        Args:
            out: [stop - start], on the CPU, contiguous, of the entry's dtype.

        Raises:
            CheckpointError: the file ends early or cannot be read.
        """
        ...

    def load(self) -> Tensor:
        """The whole tensor, in memory of its own, on the CPU."""
        ...


def open_checkpoint(directory: Path, load_format: str) -> "Checkpoint":
    """The checkpoint in `directory`.

    Raises:
        CheckpointError: no weights, or a shard is missing (named), truncated or unsafe.
    """
    return Checkpoint(files.select_local(directory, load_format))


class Checkpoint:
    """The weight files of a model, in order.

    `total_bytes` is the size of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.total_bytes = sum(path.stat().st_size for path in self.paths)

    def shards(self) -> Iterator[list[TensorEntry]]:
        """The entries of one file after the other.

        A file is closed, and its entries become invalid, when the next one is asked for.

        Raises:
            CheckpointError: a file is truncated, corrupt, unsafe, or repeats a tensor's name.
        """
        owner: dict[str, Path] = {}
        for path in self.paths:
            reader = SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)
            with reader:
                for entry in reader.entries:
                    if entry.name in owner:
                        raise CheckpointError(
                            f"tensor {entry.name} is in both {owner[entry.name]} and {path.name}; "
                            "remove the file that does not belong to the checkpoint"
                        )
                    owner[entry.name] = path
                yield reader.entries


@dataclass(slots=True)
class _SafetensorsEntry:
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    path: Path
    file: int  # descriptor
    offset: int  # of the first element, in the file

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def read_into(self, out: Tensor, start: int, stop: int) -> None:
        view = out.view(torch.uint8).numpy().data
        position = self.offset + start * self.dtype.itemsize
        while view:
            try:
                count = os.preadv(self.file, [view], position)
            except OSError as error:
                raise CheckpointError(f"{self.path} cannot be read: {error}") from None
            if count == 0:
                raise CheckpointError(
                    f"{self.path} ended at byte {position} inside tensor {self.name}; "
                    "was it replaced while loading?"
                )
            view, position = view[count:], position + count

    def load(self) -> Tensor:
        flat = torch.empty(prod(self.shape), dtype=self.dtype)
        if self.nbytes:
            self.read_into(flat, 0, flat.numel())
        return flat.view(self.shape)


class SafetensorsFile:
    """One safetensors file: eight bytes of header length, a JSON header, the tensors' bytes.

    Format: https://github.com/huggingface/safetensors#format
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        try:
            self._size = os.fstat(self._file).st_size
            self.entries: list[TensorEntry] = self._read_header()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "SafetensorsFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _read_header(self) -> list[TensorEntry]:
        start = os.pread(self._file, 64, 0)
        if start.startswith(_LFS_POINTER):
            raise CheckpointError(_lfs_message(self.path))
        if len(start) < 8:
            raise CheckpointError(f"{self.path} is truncated: it has {self._size} bytes")
        length = struct.unpack("<Q", start[:8])[0]
        if length > min(_MAX_HEADER_BYTES, self._size - 8):
            raise CheckpointError(
                f"{self.path} is truncated or no safetensors file: its header should be {length} "
                f"bytes and the file has {self._size}; download it again"
            )
        try:
            header = json.loads(os.pread(self._file, length, 8))
            header.pop("__metadata__", None)
            found = [self._entry(name, item, 8 + length) for name, item in header.items()]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"{self.path} has a corrupt safetensors header ({error!r}); download it again"
            ) from None
        found.sort(key=lambda entry: entry.offset)
        end = max((entry.offset + entry.nbytes for entry in found), default=8 + length)
        if end > self._size:
            raise CheckpointError(
                f"{self.path} is truncated: it has {self._size} bytes of {end}; download it again"
            )
        return list[TensorEntry](found)

    def _entry(self, name: str, item: dict[str, Any], data: int) -> _SafetensorsEntry:
        if item["dtype"] not in SAFETENSORS_DTYPES:
            raise ValueError(f"tensor {name} has unknown dtype {item['dtype']}")
        begin, end = item["data_offsets"]
        shape = tuple(int(size) for size in item["shape"])
        entry = _SafetensorsEntry(
            name, shape, SAFETENSORS_DTYPES[item["dtype"]], self.path, self._file, data + begin
        )
        if begin < 0 or min(shape, default=0) < 0 or entry.nbytes != end - begin:
            raise ValueError(f"tensor {name} has {end - begin} bytes, not {entry.nbytes}")
        return entry


@dataclass(slots=True)
class _TorchEntry:
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    path: Path
    tensor: Tensor

    @property
    def nbytes(self) -> int:
        return self.tensor.numel() * self.dtype.itemsize

    def read_into(self, out: Tensor, start: int, stop: int) -> None:
        out.copy_(self.tensor.reshape(-1)[start:stop])

    def load(self) -> Tensor:
        return self.tensor.clone()


class TorchFile:
    """One file of `torch.save`, through the restricted unpickler.

    The zip format is mapped, not read. The format from before torch 1.6 cannot be: such a file
    is held in memory whole while its tensors are placed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[TensorEntry] = []
        for name, value in self._load().items():
            if not isinstance(value, Tensor):
                raise CheckpointError(
                    f"{path} is not a model's state dict: {name!r} is a {type(value).__name__}"
                )
            entry = _TorchEntry(str(name), tuple(value.shape), value.dtype, path, value.detach())
            self.entries.append(entry)

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.entries = []

    def _load(self) -> dict[str, object]:
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise CheckpointError(_lfs_message(self.path))
        try:
            value = torch.load(
                self.path,
                map_location="cpu",
                weights_only=True,
                mmap=zipfile.is_zipfile(self.path),
            )
        except UnpicklingError as error:
            raise CheckpointError(self._unsafe_or_corrupt(error, size)) from None
        except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.path} is truncated or corrupt ({size} bytes: {_first_line(error)}); "
                "download it again"
            ) from None
        if not isinstance(value, dict):
            raise CheckpointError(
                f"{self.path} is not a model's state dict but a {type(value).__name__}"
            )
        return value

    def _unsafe_or_corrupt(self, error: UnpicklingError, size: int) -> str:
        text = str(error)
        for mark in ("Unsupported global: GLOBAL ", "GLOBAL ", "class "):
            if mark in text:
                culprit = text.split(mark, 1)[1].split()[0].rstrip(".,:;")
                return (
                    f"{self.path} asks to run Python code ({culprit}) and was not read; "
                    "use a safetensors checkpoint of this model"
                )
        return (
            f"{self.path} is truncated or corrupt, or asks to run Python code ({size} bytes: "
            f"{_first_line(error)}); download it again, or use a safetensors checkpoint"
        )


def _lfs_message(path: Path) -> str:
    return f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
