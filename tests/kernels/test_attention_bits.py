"""The CPU's attention gives a query the same bits in whatever company it is computed."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from quire.kernels.attention import torch_attention
from quire.kernels.attention.cpp_attention import attention_of
from quire.kernels.batch import AttentionBatch
from quire.kernels.table import Attention
from quire.platform import native

PAGE = 16
LENGTHS = (700, 230)  # past the 512 keys that are summed at a time; within the range cut in two
HEADS, KV_HEADS, HEAD_DIM = 6, 3, 64
LIBRARY, _ = native.open_library()
SETS = [] if LIBRARY is None else native.usable_sets(LIBRARY.handle)


@pytest.fixture(params=["torch", *SETS])
def attention(request: pytest.FixtureRequest) -> Attention:
    if request.param == "torch":
        return torch_attention.attention
    assert LIBRARY is not None
    return attention_of(replace(LIBRARY, isa=request.param))


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    yield native.set_threads
    native.set_threads(torch.get_num_threads())


def step(lens: list[tuple[int, int, int]]) -> AttentionBatch:
    """(sequence, query_len, seq_len) of each; sequence i's pages are row i of the table."""
    sequences, query_lens, seq_lens = (np.array(x, np.int32) for x in zip(*lens, strict=True))
    width = -(-max(LENGTHS) // PAGE)
    return AttentionBatch(
        query_starts=torch.from_numpy(np.concatenate([[0], np.cumsum(query_lens)])),
        seq_lens=torch.from_numpy(seq_lens),
        rows=torch.from_numpy(sequences),
        page_table=torch.arange(len(LENGTHS) * width).int().view(len(LENGTHS), width),
        slots=torch.empty(0),
        page_size=PAGE,
        host_query_lens=query_lens,
        host_seq_lens=seq_lens,
        max_query_len=int(query_lens.max()),
        max_seq_len=int(seq_lens.max()),
    )


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (100, None), (None, 5.0)])
def test_a_prompt_at_once_in_chunks_and_token_by_token(
    attention: Attention, dtype: torch.dtype, window: int | None, softcap: float | None
) -> None:
    torch.manual_seed(0)
    queries = [torch.randn(n, HEADS, HEAD_DIM).to(dtype) for n in LENGTHS]
    shape = (len(LENGTHS) * -(-max(LENGTHS) // PAGE), KV_HEADS, PAGE, HEAD_DIM)
    pages = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)

    def attend(lens: list[tuple[int, int, int]]) -> list[torch.Tensor]:
        q = torch.cat([queries[i][n - count : n] for i, count, n in lens])
        out = attention(q, *pages, step(lens), 0.125, window, softcap)
        return list(out.split([count for _, count, _ in lens]))

    whole = attend([(i, n, n) for i, n in enumerate(LENGTHS)])
    for i, length in enumerate(LENGTHS):
        for size in (1, 2, 7, 190, 500):
            ends = [*range(size, length, size), length][-40:]
            starts = [0, *ends][-len(ends) - 1 : -1]
            starts[0] = max(0, ends[0] - size)
            for start, end in zip(starts, ends, strict=True):
                (chunk,) = attend([(i, end - start, end)])
                assert torch.equal(chunk, whole[i][start:end]), (i, start, end)
    both = attend([(0, 1, 650), (1, 1, 211)])  # gathered together where they are of like lengths
    assert torch.equal(both[0], whole[0][649:650])
    assert torch.equal(both[1], whole[1][210:211])


GROUPS = [1, 2, 3, 5, 7, 16]
HEAD_DIMS = [64, 80, 96, 112, 128, 256]


@pytest.mark.skipif(LIBRARY is None, reason="no C++ kernels here")
@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("seed", range(6))
def test_any_batch_on_any_number_of_threads(
    isa: str, seed: int, set_threads: Callable[[int], None]
) -> None:
    """Random shapes: a token's bits are the same alone and in a batch, on 1 to 8 threads, and
    however long contexts are cut for them."""
    assert LIBRARY is not None
    attention = attention_of(replace(LIBRARY, isa=isa))
    rng = np.random.default_rng(seed)
    group, head_dim, page_size = GROUPS[seed], HEAD_DIMS[seed], (16, 32)[seed % 2]
    window = int(rng.integers(1, 1500)) if seed % 3 == 2 else None
    lens = rng.integers(1, 400, 5)
    lens[seed % 5] = 2700  # of more blocks than a piece has
    query_lens = np.minimum(rng.choice([1, 1, 3, 40, 90], 5), lens)
    width = -(-2700 // page_size)
    dtype = torch.float32 if seed == 4 else torch.bfloat16
    generator = torch.Generator().manual_seed(seed)
    pages = torch.randn(2, 5 * width, 2, page_size, head_dim, generator=generator).to(dtype)
    table = torch.randperm(5 * width, generator=generator).int().view(5, width)
    queries = [
        torch.randn(int(n), 2 * group, head_dim, generator=generator).to(dtype) for n in query_lens
    ]

    def attend(chosen: list[tuple[int, int, int]]) -> list[torch.Tensor]:
        """(sequence, first query, end) of each -> its results."""
        steps = [(i, end - start, int(lens[i] - query_lens[i]) + end) for i, start, end in chosen]
        q = torch.cat([queries[i][start:end] for i, start, end in chosen])
        batch = replace(step(steps), page_table=table, page_size=page_size)
        out = attention(q, pages[0], pages[1], batch, head_dim**-0.5, window, None)
        return list(out.split([count for _, count, _ in steps]))

    everything = [(i, 0, int(n)) for i, n in enumerate(query_lens)]
    set_threads(1)
    together = attend(everything)
    for threads in (2, 3, 8):
        set_threads(threads)
        for _ in range(3):
            for a, b in zip(attend(everything), together, strict=True):
                assert torch.equal(a, b)
    for i, count in enumerate(query_lens.tolist()):
        for token in {0, count // 2, count - 1}:
            (alone,) = attend([(i, token, token + 1)])
            assert torch.equal(alone[0], together[i][token])
