"""Packed weights: on disk as a CPU's kernels read them, for later starts to map.

Where `packed_weights_dir` asks for it. A start that finds its model's file reads no checkpoint,
packs nothing and finds no memory: the file's pages are the weights, one copy for all processes. The
file begins with what it was made of, and is taken only if this start would make it of the same. It
gets its name when it is whole. One that cannot be written is done without. Runs in the worker.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn

from quire import __version__
from quire.core.errors import CheckpointError
from quire.layers.parameters import Weighted
from quire.platform.native import open_library
from quire.weights.checkpoint import Checkpoint

logger = logging.getLogger("quire")

LAYOUT = 1  # one more whenever this version would pack a checkpoint otherwise than before
_ALIGNMENT = 64  # bytes; a cache line
_PAGE = 4096
_READ = 1 << 20  # bytes of a weight file that tell it from others: its header, mostly


class PackedWeights:
    """The file of one model.

    Args:
        folder: where it is, or will be.
        model: with its parameters' memory, filled or not.
        checkpoint: what fills them.
        hf_config: the parsed config.json.

    Raises:
        CheckpointError: a file of it cannot be read.
    """

    def __init__(
        self, folder: Path, model: nn.Module, checkpoint: Checkpoint, hf_config: Mapping[str, Any]
    ) -> None:
        self._held = {
            f"{name}.{part}": tensor
            for name, module in model.named_modules()
            if isinstance(module, Weighted)
            for part, tensor in module.layout.tensors().items()
        }
        # What is copied stands first: beside one another, few reads bring it from a disk.
        named = dict(sorted(model.named_parameters(), key=lambda item: item[0] in self._held))
        self._parameters = named
        tensors = [[name, str(t.dtype), list(t.shape)] for name, t in named.items()]
        made_of = {
            "quire": [__version__, LAYOUT, _kernels()],
            "config": hf_config,
            "files": [_identity(path) for path in checkpoint.paths],
            "tensors": tensors,
        }
        text = json.dumps(made_of, sort_keys=True, default=str).encode()
        self._header = text.ljust(_up(len(text) + 1, _PAGE), b"\n")
        self._offsets: dict[str, int] = {}
        self._size = len(self._header)
        for name, tensor in named.items():
            self._offsets[name] = self._size
            self._size = _up(self._size + tensor.nbytes, _ALIGNMENT)
        # A checkpoint that changes, or another version of Quire, writes over what it had.
        home = checkpoint.paths[0].parent.absolute()
        which = hashlib.sha256(json.dumps([str(home), tensors]).encode()).hexdigest()[:16]
        self._path = folder / f"{home.name}-{which}.quire"

    def map(self) -> bool:
        """Let the model's weights be those of the file, if there is one of just this model."""
        try:
            if self._path.stat().st_size != self._size:
                return False
            data = torch.from_file(str(self._path), False, self._size, dtype=torch.uint8)
        except (OSError, RuntimeError):  # there is none; torch's own for what it cannot map
            return False
        if data[: len(self._header)].numpy().tobytes() != self._header:
            return False
        for name, parameter in self._parameters.items():
            offset = self._offsets[name]
            value = data[offset : offset + parameter.nbytes].view(parameter.dtype)
            value = value.view(parameter.shape)
            if name in self._held:
                self._held[name].data = parameter.data = value
            else:  # of norms and biases, few bytes
                parameter.copy_(value)
        logger.info("mapped the packed weights in %s", self._path)
        return True

    def keep(self) -> None:
        """Write the file from the model's weights."""
        folder, part = self._path.parent, self._path.with_suffix(f".{uuid4().hex}.part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < self._size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with part.open("xb") as file:
                file.write(self._header)
                for name, parameter in self._parameters.items():
                    file.seek(self._offsets[name])
                    file.write(_bytes_of(parameter))
                file.truncate(self._size)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
            logger.info("wrote packed weights to %s, for the next start", self._path)
        except OSError as error:
            logger.warning(
                "cannot keep packed weights, %.1f GiB, in %s (%s); the next start will pack again",
                self._size / 2**30,
                folder,
                error.strerror,
            )
        finally:
            with suppress(OSError):
                part.unlink()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data


def _identity(path: Path) -> list[object]:
    """What tells a weight file from one that takes its place."""
    try:
        with path.open("rb") as file:
            stat, start = os.fstat(file.fileno()), file.read(_READ)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    return [path.name, stat.st_size, stat.st_mtime_ns, hashlib.sha256(start).hexdigest()]


def _kernels() -> str:
    """Of the library that packs and reads, which instruction set and build."""
    library, missing = open_library()
    if library is None:
        return missing
    return f"{library.isa} {hashlib.sha256(Path(library.handle._name).read_bytes()).hexdigest()}"


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
