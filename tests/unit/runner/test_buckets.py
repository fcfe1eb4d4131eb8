"""Which graphs are captured, when, and which serve meanwhile."""

import pytest

from quire.runner.buckets import CAPTURE_COST, NEAR, CapturePolicy, buckets, ladder


def policy_of(max_rows: int) -> CapturePolicy:
    return CapturePolicy(buckets(max_rows), ladder(max_rows))


def run(policy: CapturePolicy, counts: list[int]) -> list[int]:
    """What was captured on the way."""
    captured = []
    for count in counts:
        bucket = policy.choose(count)
        assert bucket is None or bucket >= count
        if bucket is not None and bucket not in policy.captured:
            policy.captured.add(bucket)
            captured.append(bucket)
    return captured


@pytest.mark.parametrize("max_rows", [1, 3, 8, 100, 256, 300, 1024])
def test_buckets_cover_every_batch_with_little_padding(max_rows: int) -> None:
    sizes = buckets(max_rows)
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
    assert tuple(captured) == ladder(max_rows)
    assert len(captured) <= 1 + max_rows.bit_length()
    for count in range(1, max_rows + 1):
        fresh = policy_of(max_rows)
        fresh.captured.update(captured)
        chosen = fresh.choose(count)
        assert chosen in captured
        assert chosen <= max(8, NEAR * count)


def test_without_a_near_graph_the_second_need_captures() -> None:
    policy = policy_of(256)
    assert run(policy, [200]) == []
    assert run(policy, [200, 200]) == [208]
    assert run(policy, [90, 90]) == [96]  # 208 is too far


def test_what_memory_refused_is_not_tried_again() -> None:
    policy = policy_of(256)
    policy.refused.add(96)
    assert [policy.choose(90) for _ in range(9)] == [None] * 9
    policy.captured.add(112)
    assert [policy.choose(90) for _ in range(999)] == [112] * 999
    while (bucket := policy.ahead()) is not None:
        assert bucket != 96
        policy.refused.add(bucket)


def test_a_batch_that_shrinks_once_captures_nothing_on_its_way() -> None:
    policy = policy_of(256)
    run(policy, [256] * 2)
    assert run(policy, list(range(255, 128, -1))) == []


def test_a_bucket_is_captured_when_its_padding_has_cost_as_much() -> None:
    policy = policy_of(256)
    run(policy, [256] * 2)
    assert run(policy, [128] * (CAPTURE_COST - 1)) == []
    assert run(policy, [128]) == [128]
    assert run(policy, [240] * (15 * CAPTURE_COST - 1)) == []
    assert run(policy, [240] * 2) == [240]


def test_what_was_missed_most_is_captured_ahead_first() -> None:
    policy = policy_of(256)
    run(policy, [256] * 2)
    run(policy, [200, 150, 151, 150])
    ahead = []
    for _ in range(3):
        bucket = policy.ahead()
        assert bucket is not None
        ahead.append(bucket)
        policy.captured.add(bucket)
    assert ahead == [160, 208, 1]
