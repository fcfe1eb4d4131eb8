"""Which graphs are captured, when, and which serve meanwhile."""

import pytest

from quire.runner.buckets import (
    EAGER_PROMPTS,
    NEAR,
    PATIENCE,
    CapturePolicy,
    buckets,
    ladder,
)
from quire.runner.prompt_graphs import most_tokens


def sizes_of(max_rows: int) -> tuple[int, ...]:
    return buckets(max_rows, 8, (1, 2, 4))


def policy_of(max_rows: int) -> CapturePolicy:
    sizes = sizes_of(max_rows)
    return CapturePolicy(sizes, ladder(sizes))


def run(policy: CapturePolicy, counts: list[int]) -> list[int]:
    """What was captured on the way, each at once."""
    captured = []
    for count in counts:
        bucket = policy.choose(count)
        assert bucket is None or bucket in policy.captured
        assert bucket is None or bucket >= count
        while (bucket := policy.wanted()) is not None:
            policy.captured.add(bucket)
            captured.append(bucket)
    return captured


@pytest.mark.parametrize("max_rows", [1, 3, 8, 100, 256, 300, 1024])
def test_buckets_cover_every_batch_with_little_padding(max_rows: int) -> None:
    sizes = sizes_of(max_rows)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == max_rows
    for rows in range(1, max_rows + 1):
        bucket = next(size for size in sizes if size >= rows)
        assert bucket - rows <= max(7, rows // 8)


@pytest.mark.parametrize("max_rows", [1, 3, 8, 100, 256, 300, 1024])
def test_the_ladder_leaves_no_batch_without_a_near_graph(max_rows: int) -> None:
    policy = policy_of(max_rows)
    captured = []
    while (bucket := policy.ahead()) is not None:
        captured.append(bucket)
        policy.captured.add(bucket)
    assert tuple(captured) == ladder(sizes_of(max_rows))
    assert len(captured) <= 1 + max_rows.bit_length()
    for count in range(1, max_rows + 1):
        fresh = policy_of(max_rows)
        fresh.captured.update(captured)
        chosen = fresh.choose(count)
        assert chosen in captured
        assert chosen <= max(8, NEAR * count)


def test_where_a_step_without_a_graph_costs_more_the_first_need_captures() -> None:
    sizes = buckets(8192, 64)
    policy = CapturePolicy(sizes, ladder(sizes), EAGER_PROMPTS)
    assert run(policy, [1073]) == [policy.bucket(1073)]


def test_without_a_near_graph_the_second_need_captures() -> None:
    policy = policy_of(256)
    assert run(policy, [200]) == []
    assert run(policy, [200]) == [208]
    assert policy.choose(200) == 208
    assert run(policy, [90, 90]) == [96]  # 208 is too far


def test_what_memory_refused_is_not_tried_again() -> None:
    policy = policy_of(256)
    policy.refused.add(96)
    assert [policy.choose(90) for _ in range(9)] == [None] * 9
    policy.captured.add(112)
    assert [policy.choose(90) for _ in range(999)] == [112] * 999
    assert policy.wanted() is None
    while (bucket := policy.ahead()) is not None:
        assert bucket != 96
        policy.refused.add(bucket)


def test_a_batch_that_shrinks_once_captures_nothing_on_its_way() -> None:
    policy = policy_of(256)
    run(policy, [256] * 2)
    assert run(policy, list(range(255, 128, -2))) == []


def test_a_bucket_is_captured_when_its_padding_costs_more_than_a_little() -> None:
    policy = policy_of(256)
    run(policy, [256] * 2)
    assert run(policy, [128] * (int(PATIENCE) - 1)) == []
    assert run(policy, [128]) == [128]
    assert run(policy, [240] * (15 * int(PATIENCE) - 1)) == []
    assert run(policy, [240] * 2) == [240]


def test_what_costs_most_is_captured_first() -> None:
    policy = policy_of(256)
    run(policy, [256] * 2)
    for count in (200, 90, 90, 100, 100, 100, 150):
        policy.choose(count)
    assert [policy.wanted(), policy.ahead()] == [104, 104]
    wanted = []
    while (bucket := policy.wanted()) is not None:
        policy.captured.add(bucket)
        wanted.append(bucket)
    assert wanted == [104, 96]
    ahead = []
    for _ in range(3):
        bucket = policy.ahead()
        assert bucket is not None
        ahead.append(bucket)
        policy.captured.add(bucket)
    assert ahead == [160, 208, 1]


def test_a_small_models_largest_step_is_a_graph_and_a_large_ones_is_not() -> None:
    assert most_tokens(596_000_000, 28, 8192) == 8192
    assert most_tokens(8_030_000_000, 32, 8192) == 1024
    assert most_tokens(400_000_000_000, 100, 8192) == 64
    assert most_tokens(596_000_000, 28, 16) == 16
    for most in (16, 768, 8192):
        sizes = buckets(most, 64)
        assert sizes[-1] == most
        for tokens in range(1, most + 1):
            bucket = next(size for size in sizes if size >= tokens)
            assert bucket - tokens <= max(63, tokens // 8)
