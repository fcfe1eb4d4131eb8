"""Fixtures of the kernel tests: the device, the implementations, tolerances, ragged batches."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quire.kernels.attention.parts import plan_parts
from quire.kernels.batch import AttentionBatch
from quire.kernels.select import cpp_ops, reference_ops, torch_ops, triton_ops
from quire.kernels.table import Ops
from quire.platform.native import open_library, set_threads, usable_sets

# (absolute, relative) against the reference on the same inputs. fp32 differs by the order of
# additions; the 16-bit types by that and one rounding of the result.
TOLERANCES = {
    torch.float32: (2e-5, 2e-5),
    torch.bfloat16: (1.6e-2, 1.6e-2),
    torch.float16: (2e-3, 2e-3),
}
LIBRARY, _ = open_library()
IMPLEMENTATIONS = (
    "torch",
    *(() if LIBRARY is None else usable_sets(LIBRARY.handle)),  # the C++ kernels, once for each
    *(("triton",) if importlib.util.find_spec("triton") else ()),
)
DTYPES = tuple(TOLERANCES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `ops` or `dtype` runs with each of them."""
    if "ops" in metafunc.fixturenames:
        metafunc.parametrize("ops", IMPLEMENTATIONS, indirect=True)
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CUDA device if there is one; all but Triton's versions are for the CPU."""
    callspec = getattr(request.node, "callspec", None)
    on_cpu = callspec is not None and callspec.params.get("ops", "triton") != "triton"
    return torch.device("cuda" if torch.cuda.is_available() and not on_cpu else "cpu")


@pytest.fixture
def ops(request: pytest.FixtureRequest) -> Ops:
    """The implementation under test; eight multiprocessors make small tests split their keys."""
    match request.param:
        case "torch":
            return torch_ops("test")
        case "triton":
            return triton_ops(8, "test")
        case isa:
            assert LIBRARY is not None
            return cpp_ops(replace(LIBRARY, isa=isa), "test")


@pytest.fixture
def native_ops() -> Ops:
    """What the device runs at full speed, for tests too large for the interpreter."""
    if torch.cuda.is_available():
        return triton_ops(8, "test")
    return torch_ops("test") if LIBRARY is None else cpp_ops(LIBRARY, "test")


@pytest.fixture(params=[] if LIBRARY is None else usable_sets(LIBRARY.handle))
def kernels(request: pytest.FixtureRequest) -> Ops:
    """The C++ kernels of each instruction set that this CPU has."""
    assert LIBRARY is not None
    return cpp_ops(replace(LIBRARY, isa=request.param), "test")


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of the C++ kernels, one and more than there may be cores."""
    set_threads(request.param)
    yield
    set_threads(torch.get_num_threads())


@pytest.fixture
def interpreted(request: pytest.FixtureRequest) -> bool:
    """Whether the implementation under test runs in Triton's interpreter: keep it small."""
    return "[triton" in request.node.name and not torch.cuda.is_available()


@pytest.fixture
def reference() -> Ops:
    return reference_ops("test")


@pytest.fixture
def check() -> Callable[[Tensor, Tensor], None]:
    """check(actual, expected): same shape, dtype and, within the tolerance, values."""

    def check(actual: Tensor, expected: Tensor) -> None:
        atol, rtol = TOLERANCES[expected.dtype]
        torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol)

    return check


@pytest.fixture
def randn(device: torch.device) -> Callable[..., Tensor]:
    """randn(*shape, dtype=...) from a fixed seed, the same on every device."""
    generator = torch.Generator().manual_seed(20261121)

    def randn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    return randn


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN, so that an element an op forgets to write shows."""
    empty, empty_like = torch.empty, torch.empty_like

    def fill(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return tensor.fill_(float("nan"))
        return tensor.fill_(torch.iinfo(tensor.dtype).max // 2)

    def poisoned_empty(*args: Any, **kwargs: Any) -> Tensor:
        return fill(empty(*args, **kwargs))

    def poisoned_empty_like(*args: Any, **kwargs: Any) -> Tensor:
        return fill(empty_like(*args, **kwargs))

    monkeypatch.setattr(torch, "empty", poisoned_empty)
    monkeypatch.setattr(torch, "empty_like", poisoned_empty_like)


@dataclass(frozen=True)
class PagedCase:
    """Inputs of `attention`, with NaN in every page and slot that no query sees."""

    q: Tensor
    k_pages: Tensor
    v_pages: Tensor
    batch: AttentionBatch

    def with_batch(self, **changes: Any) -> "PagedCase":
        return replace(self, batch=replace(self.batch, **changes))


@pytest.fixture
def paged_case(device: torch.device, randn: Callable[..., Tensor]) -> Callable[..., PagedCase]:
    """paged_case(lens, heads, kv_heads, head_dim, page_size, window, dtype, cache_dtype).

    A ragged batch.
    `lens` are (query_len, seq_len) pairs. Pages are handed out in random order, rows are not in
    sequence order, and the table's columns outside a window or past the end name a page of NaN
    or none at all.
    """

    def make(
        lens: Sequence[tuple[int, int]],
        heads: int = 4,
        kv_heads: int = 2,
        head_dim: int = 16,
        page_size: int = 8,
        window: int | None = None,
        dtype: torch.dtype = torch.float32,
        cache_dtype: torch.dtype | None = None,
    ) -> PagedCase:
        rng = np.random.default_rng(7)
        query_lens = np.array([q for q, _ in lens], np.int32)
        seq_lens = np.array([n for _, n in lens], np.int32)
        width = int(-(-seq_lens.max(initial=1) // page_size)) + 2
        num_pages = len(lens) * width + 1
        free = list(rng.permutation(np.arange(1, num_pages)))  # page 0 holds NaN alone
        rows = rng.permutation(len(lens) + 2)[: len(lens)].astype(np.int32)
        table = np.zeros((len(lens) + 2, width), np.int32)
        k_pages = torch.full((num_pages, kv_heads, page_size, head_dim), float("nan"))
        v_pages = k_pages.clone()
        slots = []
        for row, query_len, seq_len in zip(rows, query_lens, seq_lens, strict=True):
            first = 0 if window is None else max(0, seq_len - query_len - window + 1)
            table[row, (seq_len - 1) // page_size + 1 :] = 1 << 24  # no such page
            for position in range(first, seq_len):
                column = position // page_size
                if table[row, column] == 0:
                    table[row, column] = free.pop()
                page, offset = table[row, column], position % page_size
                k_pages[page, :, offset] = torch.from_numpy(
                    rng.standard_normal((kv_heads, head_dim), np.float32)
                )
                v_pages[page, :, offset] = torch.from_numpy(
                    rng.standard_normal((kv_heads, head_dim), np.float32)
                )
                if position >= seq_len - query_len:
                    slots.append(int(page) * page_size + offset)
        starts = np.concatenate([[0], np.cumsum(query_lens)]).astype(np.int32)
        parts = plan_parts(starts, rows, seq_lens, window, kv_heads, num_cores=8)
        batch = AttentionBatch(
            query_starts=torch.from_numpy(starts).to(device),
            seq_lens=torch.from_numpy(seq_lens).to(device),
            rows=torch.from_numpy(rows).to(device),
            page_table=torch.from_numpy(table).to(device),
            slots=torch.tensor(slots, dtype=torch.int64, device=device),
            page_size=page_size,
            host_query_lens=query_lens,
            host_seq_lens=seq_lens,
            max_query_len=int(query_lens.max(initial=0)),
            max_seq_len=int(seq_lens.max(initial=0)),
            parts=torch.from_numpy(parts).to(device),
            arrivals=torch.zeros(len(lens) + 2, kv_heads, dtype=torch.int32, device=device),
        )
        total = int(starts[-1])
        return PagedCase(
            randn(total, heads, head_dim, dtype=dtype),
            k_pages.to(device, cache_dtype or dtype),
            v_pages.to(device, cache_dtype or dtype),
            batch,
        )

    return make
