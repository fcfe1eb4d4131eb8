"""The step whose memory is measured fills the budget, whatever the limits."""

import pytest

from quire.runner.worker import _fill


@pytest.mark.parametrize(
    ("budget", "num_seqs", "max_len"),
    [(8192, 256, 8192), (8192, 1024, 8192), (8192, 4, 512), (2048, 2048, 100), (16, 1, 1000)],
)
def test_prompts_fill_the_step(budget: int, num_seqs: int, max_len: int) -> None:
    lengths = _fill(budget, num_seqs, max_len)
    assert len(lengths) == num_seqs
    assert sum(lengths) == min(budget, num_seqs * max_len)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] >= 1
    assert lengths[0] <= max_len
