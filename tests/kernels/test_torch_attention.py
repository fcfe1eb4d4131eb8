"""The CPU's attention gives a query the same bits in whatever company it is computed."""

import numpy as np
import pytest
import torch

from quire.kernels.attention.torch_attention import attention
from quire.kernels.batch import AttentionBatch

PAGE = 16
LENGTHS = (700, 230)  # past the 512 keys that are summed at a time; within the range cut in two
HEADS, KV_HEADS, HEAD_DIM = 6, 3, 64


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
    dtype: torch.dtype, window: int | None, softcap: float | None
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
