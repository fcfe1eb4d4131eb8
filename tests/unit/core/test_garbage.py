"""What the collector is told of at the start."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from quire.core.garbage import collect_seldom

_PROGRAM = """
import gc
{before}
from quire import LLM
assert LLM.__name__ == "LLM"
print(gc.isenabled(), len(gc.get_objects()))
frozen = gc.get_freeze_count()
from quire import LLM
print(gc.get_freeze_count() <= frozen)
"""

_CYCLE = """
gc.disable()
class Cycle:
    def __init__(self): self.own = self
    def __del__(self): print("finalized")
def make(): Cycle()
make()
"""


def _said(before: str) -> list[str]:
    command = [sys.executable, "-c", _PROGRAM.format(before=before)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_what_is_imported_is_not_looked_through_again() -> None:
    enabled, left, once = _said("")
    assert (enabled, once) == ("True", "True")
    assert 0 < int(left) < 5000  # of 180,000


def test_what_is_frozen_meets_its_finalizer_at_the_end() -> None:
    assert _said(_CYCLE)[-1] == "finalized"


def test_a_collector_that_was_off_stays_off() -> None:
    assert _said("gc.disable()")[0] == "False"


@pytest.fixture
def threshold() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("own", "then"), [(700, 20_000), (50_000, 50_000), (0, 0)])
def test_collections_become_few_and_never_more(own: int, then: int, threshold: None) -> None:
    gc.set_threshold(own)
    collect_seldom()
    assert gc.get_threshold()[0] == then
