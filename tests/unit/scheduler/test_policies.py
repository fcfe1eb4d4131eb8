"""Policies are pure functions of numbers."""

from quire.scheduler.policies import admission_headroom, chunk_limit, order_key


def test_first_come_ignores_priority():
    early = order_key("fcfs", 9, 1.0, 1, 0)
    late = order_key("fcfs", 0, 2.0, 2, 0)
    assert early < late


def test_priority_comes_before_arrival():
    urgent_late = order_key("priority", 0, 2.0, 2, 0)
    patient_early = order_key("priority", 1, 1.0, 1, 0)
    assert urgent_late < patient_early


def test_siblings_follow_each_other():
    keys = [order_key("fcfs", 0, 1.0, number, index) for number in (1, 2) for index in range(3)]
    assert keys == sorted(keys)


def test_headroom_is_for_those_that_run():
    assert admission_headroom(0) == 0
    assert admission_headroom(8) == 8


def test_a_chunk_leaves_a_token_for_each_sequence_after_it():
    assert chunk_limit(10, 3) == 7
    assert chunk_limit(2, 5) == 1
