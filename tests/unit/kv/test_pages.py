"""The page pool: counting, reuse order, and finding pages by content."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quire.kv.pages import PagePool


def name(i: int) -> bytes:
    return b"hash%d" % i


def test_all_pages_are_handed_out_once_then_none_is_left():
    pool = PagePool(5)
    page_ids = pool.allocate(2) + pool.allocate(3)
    assert sorted(page_ids) == [0, 1, 2, 3, 4]
    assert pool.num_free == 0
    assert pool.usage == 1.0
    with pytest.raises(AssertionError, match="1 pages wanted, 0 free"):
        pool.allocate(1)


def test_freeing_twice_is_caught():
    pool = PagePool(2)
    page_ids = pool.allocate(1)
    pool.free(page_ids)
    with pytest.raises(AssertionError, match="freed twice"):
        pool.free(page_ids)


def test_a_shared_page_is_free_when_its_last_holder_lets_go():
    pool = PagePool(1)
    (page,) = pool.allocate(1)
    pool.share([page])
    pool.free([page])
    assert pool.num_free == 0
    pool.free([page])
    assert pool.num_free == 1


def test_a_freed_page_is_found_until_it_is_reused():
    pool = PagePool(2)
    page, other = pool.allocate(2)
    pool.register(page, name(1))
    pool.free([page])
    assert pool.lookup(name(1)) == page
    pool.share([page])
    assert pool.ref_count(page) == 1
    assert pool.num_free == 0
    pool.free([page, other])
    pool.allocate(2)
    assert pool.lookup(name(1)) is None
    pool.check_integrity([page, other])


def test_reuse_takes_worthless_pages_first_then_the_least_recently_freed():
    pool = PagePool(6)
    page_ids = pool.allocate(6)
    for i, page_id in enumerate(page_ids[:4]):
        pool.register(page_id, name(i))
    # The tail of a sequence is given before its head.
    pool.free(reversed(page_ids[:2]))
    pool.free(reversed(page_ids[2:4]))
    pool.free(page_ids[4:])
    worthless = pool.allocate(2)
    assert sorted(worthless) == sorted(page_ids[4:])
    assert pool.allocate(4) == [page_ids[i] for i in (1, 0, 3, 2)]


def test_touching_a_page_makes_it_recently_used():
    pool = PagePool(3)
    page_ids = pool.allocate(3)
    for i, page_id in enumerate(page_ids):
        pool.register(page_id, name(i))
    pool.free(page_ids)
    pool.share(page_ids[:1])
    pool.free(page_ids[:1])
    assert pool.allocate(3) == [page_ids[i] for i in (1, 2, 0)]


def test_of_two_pages_with_the_same_content_the_first_stays_findable():
    pool = PagePool(2)
    first, second = pool.allocate(2)
    pool.register(first, name(1))
    pool.register(second, name(1))
    assert pool.lookup(name(1)) == first
    pool.free([second])
    assert pool.allocate(1) == [second]
    assert pool.lookup(name(1)) == first


def test_a_free_page_cannot_be_registered():
    pool = PagePool(1)
    with pytest.raises(AssertionError, match="cannot be registered"):
        pool.register(0, name(1))


def test_forgotten_pages_are_not_found():
    pool = PagePool(2)
    page, _ = pool.allocate(2)
    pool.register(page, name(1))
    pool.forget([page])
    assert pool.lookup(name(1)) is None
    pool.check_integrity([0, 1])


def test_check_integrity_sees_a_leak():
    pool = PagePool(3)
    pool.allocate(2)
    with pytest.raises(AssertionError, match="ref counts differ"):
        pool.check_integrity([0])


class PoolMachine(RuleBasedStateMachine):
    """Holders come, share, register and go; a plain model says what must be findable."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(7)
        self.held: list[list[int]] = []
        self.content: dict[int, bytes] = {}
        self.counter = 0

    @rule(count=st.integers(0, 4))
    def allocate(self, count):
        if count <= self.pool.num_free:
            page_ids = self.pool.allocate(count)
            busy = {page_id for pages in self.held for page_id in pages}
            assert not busy & set(page_ids), "a held page was handed out"
            for page_id in page_ids:
                self.content.pop(page_id, None)
            self.held.append(page_ids)

    @rule(choice=st.randoms(use_true_random=False))
    def register(self, choice: random.Random):
        if self.held:
            for page_id in choice.choice(self.held):
                if page_id not in self.content:
                    self.counter += 1
                    self.content[page_id] = name(self.counter)
                    self.pool.register(page_id, name(self.counter))

    @rule(choice=st.randoms(use_true_random=False))
    def share_what_is_found(self, choice: random.Random):
        if self.content:
            page_ids = choice.sample(sorted(self.content), choice.randint(1, len(self.content)))
            found = [self.pool.lookup(self.content[page_id]) for page_id in page_ids]
            assert found == page_ids
            self.pool.share(page_ids)
            self.held.append(page_ids)

    @rule(choice=st.randoms(use_true_random=False))
    def free(self, choice: random.Random):
        if self.held:
            self.pool.free(reversed(self.held.pop(choice.randrange(len(self.held)))))

    @invariant()
    def accounts_for_every_page(self):
        self.pool.check_integrity(page_id for pages in self.held for page_id in pages)
        busy = {page_id for pages in self.held for page_id in pages}
        assert self.pool.num_free == self.pool.num_pages - len(busy)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
