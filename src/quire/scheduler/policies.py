"""Scheduling policy: small pure functions that order sequences. They change nothing.

Running and waiting sequences are both kept in the order of `order_key`, so one total order
decides who is planned first, who is admitted first and who loses pages. Its first unfinished
sequence can take pages from all others and is never taken from: that is why every request ends.
"""

from collections.abc import Sequence as ListOf
from typing import Literal

from quire.scheduler.sequence import OrderKey, Sequence

Policy = Literal["fcfs", "priority"]


def order_key(
    policy: Policy, priority: int, arrival_time: float, number: int, index: int
) -> OrderKey:
    """Smaller comes first. `number` counts requests as they were added and breaks ties; a
    request's sequences follow each other by index."""
    return (priority if policy == "priority" else 0, arrival_time, number, index)


def preemption_victim(running: ListOf[Sequence]) -> Sequence:
    """Who gives up its pages: the last in order, so last come (of the least priority)."""
    return running[-1]


def admission_headroom(num_running: int) -> int:
    """Pages to leave free when admitting, so that running sequences can grow for a while: one
    for each, none when nothing runs.

    Without it a full cache admits a prompt only to take its pages back a few steps later.
    Simulated (300 requests of 50-600 + 50-400 tokens, 1500 pages of 16, no prefix cache):
    tokens computed over tokens needed falls from 1.28 to 1.03, for 1.3% more steps.
    """
    return num_running


def chunk_limit(budget: int, num_after: int) -> int:
    """How many tokens a running prompt may take: one is kept for each sequence after it, so a
    long prompt never stalls those that are decoding."""
    return max(1, budget - num_after)
