"""Buckets of CUDA graphs; the graphs themselves run in tests/e2e where there is a GPU."""

import pytest

from quire.runner.graphs import buckets


@pytest.mark.parametrize("max_rows", [1, 3, 8, 100, 256, 300, 1024])
def test_buckets_cover_every_batch_with_little_padding(max_rows: int) -> None:
    sizes = buckets(max_rows)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == max_rows
    for rows in range(1, max_rows + 1):
        bucket = next(size for size in sizes if size >= rows)
        assert bucket - rows <= max(7, rows // 8)
