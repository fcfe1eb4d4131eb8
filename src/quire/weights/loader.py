"""Fill a decoder's parameters from a checkpoint, each tensor straight into its place.

There is never a second copy of the model: a tensor goes from the file into the parameter's own
memory where dtype and layout agree, else through a scratch buffer of a few MiB per thread.
Every tensor of the checkpoint and every parameter of the model is accounted for by name. Weights
that are quantized while they load are so as soon as all of their parts are there. Runs in the
worker.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from quire.core.errors import CheckpointError
from quire.models.recipe import Placement, Recipe, WeightMap
from quire.platform.host import num_cores
from quire.platform.streams import Event
from quire.quant.layouts.layout import Layout
from quire.weights.checkpoint import TensorEntry, open_checkpoint
from quire.weights.progress import ProgressOption, loading_progress
from quire.weights.targets import Staging, Target, fill_targets

# Bytes read at once. Four threads, 8 GB of the page cache to an H200: 10 GB/s with 2 MiB, 18 with
# 4, 22.7 with 8 (76% of what they read without copying), 22.5 with 16, for which memory that the
# GPU can read takes twice as long to find. To a CPU's memory the rate is the same from 4 to 64.
CHUNK_BYTES = 8 << 20
MAX_THREADS = 4
LISTED = 3  # names given in full in an error, then a count


def load_weights(
    model: nn.Module,
    recipe: Recipe,
    directory: Path,
    load_format: str = "auto",
    progress: ProgressOption = True,
) -> None:
    """Fill every parameter of `model` in place.

    Args:
        model: the decoder of `recipe`, its parameters on their device and in their dtype.
        directory: the checkpoint's folder.
        load_format: "auto", "safetensors" or "pt".
        progress: see `ProgressOption`.

    Raises:
        CheckpointError: a file is missing, truncated or unsafe; a tensor is missing, left over,
            or of the wrong shape. The parameters' contents are then undefined.
    """
    checkpoint = open_checkpoint(directory, load_format)
    ledger = _Ledger(recipe.weights, fill_targets(model, tied=True), str(directory))
    with loading_progress(progress, checkpoint.total_bytes) as report, _Copier(report) as copier:
        for entries in checkpoint.shards():
            for entry in entries:
                copier.add(entry, ledger.destinations(entry))
                for layout, weight in ledger.complete():
                    copier.convert(layout, weight, ledger.staging)
            copier.wait()
    ledger.check()


def destination(parameter: Tensor, place: Placement) -> Tensor:
    """The part of `parameter` that `place` names, seen in the shape of the source tensor.

    A view: what is copied into it lands in the parameter. Its shape is the one the checkpoint's
    tensor must have.
    """
    view = parameter if place.expert is None else parameter[place.expert]
    if place.rows is not None:
        first, last = place.rows
        view = view.narrow(max(view.ndim - 2, 0), first, last - first)
    if place.transform == "transpose":
        return view.transpose(-2, -1)
    if place.transform == "split_heads_qkv":
        # [3, H, D, ...] in the parameter is [H, 3, D, ...] in the checkpoint.
        return view.unflatten(0, (3, place.num_heads, -1)).transpose(0, 1)
    return view


def _source_shape(view: Tensor, place: Placement) -> tuple[int, ...]:
    """The shape of the checkpoint's tensor for a `destination`."""
    shape = tuple(view.shape)
    return (prod(shape[:3]), *shape[3:]) if place.transform == "split_heads_qkv" else shape


@dataclass(slots=True)
class _Ledger:
    """Which tensors came, and how much of each parameter is filled."""

    weights: WeightMap
    targets: dict[str, Target]
    where: str
    seen: set[str] = field(default_factory=set)
    leftover: list[str] = field(default_factory=list)
    filled: dict[int, int] = field(default_factory=dict)  # id of the target -> elements
    dense: dict[str, Tensor] = field(default_factory=dict)  # weights to convert, not all there yet
    staging: Staging = field(default_factory=Staging)

    def destinations(self, entry: TensorEntry) -> list[Tensor]:
        """Where `entry` goes: views of parameters, in the source's element order."""
        key = self.weights.find(entry.name)
        if key is None:
            if not self.weights.ignores(entry.name):
                self.leftover.append(entry.name)
            return []
        if key in self.seen:
            raise CheckpointError(
                f"{self.where} holds {key} twice, once as {entry.name}; use a clean checkpoint"
            )
        self.seen.add(key)
        return [self._view(entry, place) for place in self.weights.places[key]]

    def _view(self, entry: TensorEntry, place: Placement) -> Tensor:
        assert place.param in self.targets, f"the recipe places {entry.name} in {place.param}"
        target = self.targets[place.param]
        parameter = self.dense.get(place.param)
        if parameter is None:
            parameter = self.staging.take(target)
            if not isinstance(target, nn.Parameter):
                self.dense[place.param] = parameter
        view = destination(parameter, place)
        expected = _source_shape(view, place)
        if entry.shape != expected:
            raise CheckpointError(
                f"tensor {entry.name} in {entry.path.name} has shape {list(entry.shape)}, "
                f"config.json makes it {list(expected)}; they do not belong together"
            )
        self.filled[id(target)] = self.filled.get(id(target), 0) + view.numel()
        return view

    def complete(self) -> Iterator[tuple[Layout, Tensor]]:
        """Weights to convert of which the last part has a destination now: (layout, dense)."""
        for name in [name for name in self.dense if not self._lacks(name)]:
            layout = self.targets[name]
            assert not isinstance(layout, nn.Parameter)
            yield layout, self.dense.pop(name)

    def _lacks(self, name: str) -> bool:
        target = self.targets[name]
        return self.filled.get(id(target), 0) < prod(target.shape)

    def check(self) -> None:
        """Everything came and nothing was left over, or CheckpointError."""
        missing = [
            name
            for name in self.weights.places
            if name not in self.seen and name not in self.weights.optional
        ]
        if missing:
            raise CheckpointError(
                f"{self.where} lacks {_names(missing)}; the checkpoint is incomplete or its "
                "config.json is another model's"
            )
        if self.leftover:
            raise CheckpointError(
                f"{self.where} holds {_names(self.leftover)} that this architecture does not use; "
                "its config.json may be another model's"
            )
        unfilled = [name for name in self.targets if self._lacks(name)]
        if unfilled:
            raise CheckpointError(
                f"{self.where} leaves {_names(unfilled)} without values: tensors are missing"
            )


def _names(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    kind = "tensor" if len(names) == 1 else "tensors"
    listed = ", ".join(sorted(names)[:LISTED])
    return f"{kind} {listed}{f' and {more} more' if more > 0 else ''}"


class _Copier:
    """Copies tensors to their places in chunks, on a few threads. Reads overlap with copies."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._pool = ThreadPoolExecutor(min(MAX_THREADS, num_cores()), "quire-load")
        self._own = threading.local()  # each thread's `scratch`
        self._pending: list[Future[None]] = []
        self._converting: Future[None] | None = None

    def __enter__(self) -> "_Copier":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, entry: TensorEntry, views: list[Tensor]) -> None:
        """Queue an entry; `views` may be empty. They must stay alive until `wait`."""
        if not views:
            self._report(entry.nbytes)
        for index, view in enumerate(views):
            for start, stop, part in _chunks(view, CHUNK_BYTES // entry.dtype.itemsize):
                task = self._pool.submit(self._copy, entry, start, stop, part, counts=index == 0)
                self._pending.append(task)

    def convert(self, layout: Layout, weight: Tensor, staging: Staging) -> None:
        """Queue the filling of `layout` from `weight`, all of whose parts are queued, and which
        goes back to `staging` then.

        Waits for the weight before, so that no more than two dense ones take memory.
        """
        if self._converting is not None:
            self._converting.result()
        task = self._pool.submit(_convert, list(self._pending), layout, weight, staging)
        self._converting = task
        self._pending.append(task)

    def wait(self) -> None:
        """Return when everything queued is in place; raises what a thread raised."""
        for future in self._pending:
            future.result()
        self._pending.clear()

    def _copy(
        self, entry: TensorEntry, start: int, stop: int, part: Tensor, *, counts: bool
    ) -> None:
        with torch.inference_mode():  # parameters made under it may only be written under it
            on_cpu = part.device.type == "cpu"
            if on_cpu and part.dtype == entry.dtype and part.is_contiguous():
                entry.read_into(part.view(-1), start, stop)
            else:
                if not hasattr(self._own, "scratch"):
                    self._own.scratch = _Scratch()
                scratch: _Scratch = self._own.scratch
                size = (stop - start) * entry.dtype.itemsize
                values = scratch.take(size, pinned=not on_cpu).view(entry.dtype)
                entry.read_into(values, start, stop)
                part.copy_(values.view(part.shape), non_blocking=True)
                scratch.copied(part.device)
        if counts:
            self._report((stop - start) * entry.dtype.itemsize)


class _Scratch:
    """A thread's two buffers: while what is in one goes to a GPU, the other is read into."""

    def __init__(self) -> None:
        self._buffers = [torch.empty(0, dtype=torch.uint8)] * 2
        self._copies: list[Event | None] = [None, None]

    def take(self, size: int, *, pinned: bool) -> Tensor:
        """[size] bytes, of which no copy is under way any more."""
        self._buffers.reverse()
        self._copies.reverse()
        if self._copies[0] is not None:
            self._copies[0].wait()
        if len(self._buffers[0]) < size:
            room = max(size, CHUNK_BYTES)
            self._buffers[0] = torch.empty(room, dtype=torch.uint8, pin_memory=pinned)
        return self._buffers[0][:size]

    def copied(self, device: torch.device) -> None:
        """What was taken last has been queued to be copied there."""
        self._copies[0] = Event(device)


def _convert(parts: list[Future[None]], layout: Layout, weight: Tensor, staging: Staging) -> None:
    for part in parts:  # queued before: each has ended or runs in another thread
        part.result()
    with torch.inference_mode():
        layout.fill(weight)
    staging.give_back(weight)


def _chunks(view: Tensor, elements: int) -> Iterator[tuple[int, int, Tensor]]:
    """`view` cut along its first dimension into parts of about `elements` (one row at least):
    (first, last element of the flattened view, part)."""
    if view.ndim == 0:
        view = view.unsqueeze(0)
    row = prod(view.shape[1:])
    if row == 0:
        return
    step = max(1, elements // row)
    for first in range(0, view.shape[0], step):
        part = view[first : first + step]
        yield first * row, first * row + part.numel(), part
