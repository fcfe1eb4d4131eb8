"""Page tables over several KV groups: prefix hits, windows, forks, all-or-nothing allocation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core.kv_spec import KVGroup
from quire.kv.cache import KVCache
from quire.kv.capacity import (
    UNBOUNDED,
    first_live_column,
    max_tokens_of_one_sequence,
    window_pages,
)
from quire.kv.hashing import extend_page_hashes

P = 4


def make(windows=(None,), num_pages=16, caching=True):
    groups = [KVGroup(window, ()) for window in windows]
    pages = [num_pages] * len(groups) if isinstance(num_pages, int) else num_pages
    return KVCache(groups, pages, P, caching)


def page_hashes(token_ids):
    found: list[bytes] = []
    extend_page_hashes(found, token_ids, len(token_ids) // P, P, "")
    return found


def compute(cache, token_ids):
    """A table as a finished prefill leaves it: every full page committed."""
    hashes = page_hashes(token_ids)
    table = cache.open_table(cache.match_prefix((), len(token_ids)))
    assert cache.allocate(table, len(token_ids)) is not None
    if cache.enable_prefix_caching:
        cache.commit(table, hashes, len(hashes))
    return table


def test_a_prefix_hit_is_whole_pages_and_leaves_a_token_to_compute():
    cache = make()
    tokens = list(range(12))
    table = compute(cache, tokens)
    for length, hit_tokens in ((4, 0), (5, 4), (8, 4), (9, 8), (12, 8), (13, 12)):
        prompt = [*tokens, 99, 98][:length]
        hit = cache.match_prefix(page_hashes(prompt), length)
        assert hit.num_tokens == hit_tokens
        assert list(hit.pages[0]) == table.pages[0][: hit_tokens // P]
    assert cache.match_prefix(page_hashes([9, 9, 9, 9, 9]), 5).num_tokens == 0


def test_a_hit_revives_free_pages_and_shares_held_ones():
    cache = make(num_pages=4)
    tokens = list(range(8))
    first = compute(cache, tokens)
    cache.free(first)
    assert cache.num_free == (4,)
    prompt = [*tokens, 50]
    tables = [cache.open_table(cache.match_prefix(page_hashes(prompt), 9)) for _ in range(2)]
    assert tables[0].pages == tables[1].pages
    assert cache.num_free == (2,)
    cache.check_integrity(tables)
    for table in tables:
        cache.free(table)
    assert cache.num_free == (4,)
    assert cache.usage == 0.0


def test_without_caching_nothing_is_found():
    cache = make(caching=False)
    compute(cache, list(range(8)))
    assert cache.match_prefix(page_hashes([*range(8), 9]), 9).num_tokens == 0


def test_a_gap_ends_the_hit_of_full_attention():
    cache = make()
    tokens = list(range(16))
    table = compute(cache, tokens)
    cache.pools[0].forget([table.pages[0][1]])
    assert cache.match_prefix(page_hashes([*tokens, 7]), 17).num_tokens == 4


def test_allocation_is_all_groups_or_none():
    cache = make(windows=(None, 8), num_pages=[8, 2])
    table = cache.open_table(cache.match_prefix((), 30))
    assert cache.allocate(table, 3 * P) is None
    assert cache.num_free == (8, 2)
    added = cache.allocate(table, 2 * P)
    assert [len(pages) for pages in added] == [2, 2]
    assert cache.allocate(table, 2 * P) == [[], []]
    cache.check_integrity([table])


def test_pages_leave_the_window_and_columns_stay():
    cache = make(windows=(None, 6))
    table = compute(cache, list(range(16)))
    before = [list(pages) for pages in table.pages]
    # The query at 13 sees [8, 13]: two columns are wholly older.
    cache.release_outside_window(table, 13)
    assert table.pages == before
    assert table.first == [0, 2]
    assert cache.num_free == (12, 14)
    cache.release_outside_window(table, 13)
    assert cache.num_free == (12, 14)
    cache.check_integrity([table])
    cache.free(table)
    assert cache.num_free == (16, 16)


def test_a_window_needs_only_the_pages_its_next_query_sees():
    cache = make(windows=(None, 6))
    tokens = list(range(16))
    table = compute(cache, tokens)
    cache.release_outside_window(table, 16)
    # The window's released pages are reused; the full group keeps all of its own.
    for page_id in list(cache.pools[1]._free):
        cache.pools[1].share([page_id])
        cache.pools[1].forget([page_id])
    hit = cache.match_prefix(page_hashes([*tokens, 7]), 17)
    assert hit.num_tokens == 16  # sees [11, 16]: columns 2 and 3
    assert hit.first == (0, 2)
    assert hit.pages[1][2:] == tuple(table.pages[1][2:])
    # A shorter hit would need columns that are gone.
    assert cache.match_prefix(page_hashes(tokens[:13]), 13).num_tokens == 0


def brute_force_hit(cache, hashes, num_tokens):
    """The definition, tried from the longest down."""
    for length in range(min(len(hashes), (num_tokens - 1) // P), 0, -1):
        for pool, window in zip(cache.pools, cache.windows):
            first = 0 if window is None else max(0, length * P - window + 1)
            if any(pool.lookup(hashes[p // P]) is None for p in range(first, length * P)):
                break
        else:
            return length * P
    return 0


@settings(deadline=None)
@given(
    windows=st.sampled_from([(None,), (None, 6), (5,), (None, 3, 11), (4, 9), (1, 8)]),
    gaps=st.lists(st.lists(st.integers(0, 11), max_size=5), min_size=3, max_size=3),
    num_tokens=st.integers(1, 50),
)
def test_the_hit_is_the_longest_there_is(windows, gaps, num_tokens):
    cache = make(windows)
    tokens = list(range(48))
    table = compute(cache, tokens)
    for pool, pages, missing in zip(cache.pools, table.pages, gaps):
        pool.forget([pages[column] for column in missing])
    prompt = [*tokens, 7, 8][:num_tokens]
    hashes = page_hashes(prompt)
    hit = cache.match_prefix(hashes, num_tokens)
    assert hit.num_tokens == brute_force_hit(cache, hashes, num_tokens)
    for group, pages in enumerate(hit.pages):
        first = hit.first[group]
        assert list(pages[first:]) == table.pages[group][first : hit.num_tokens // P]


@pytest.mark.parametrize("caching", [True, False])
def test_a_fork_shares_full_prompt_pages(caching):
    cache = make(windows=(None, 6), caching=caching)
    parent = compute(cache, list(range(10)))
    hit = cache.fork(parent, 10)
    assert hit.num_tokens == 8
    child = cache.open_table(hit)
    assert child.pages[0] == parent.pages[0][:2]
    # The query at 8 sees [3, 8], so column 0 too.
    assert child.pages[1] == parent.pages[1][:2]
    cache.check_integrity([parent, child])
    assert cache.fork(parent, 8).num_tokens == 4, "one token is left to compute"
    assert cache.fork(parent, 4).num_tokens == 0


def test_no_fork_from_a_parent_whose_window_has_moved_on():
    cache = make(windows=(None, 4), caching=False)
    parent = compute(cache, list(range(16)))
    assert cache.fork(parent, 9).num_tokens == 8
    cache.release_outside_window(parent, 15)
    assert cache.fork(parent, 9).num_tokens == 0


def test_admission_counts_what_a_hit_takes_off_the_free_list():
    cache = make(num_pages=4)
    tokens = list(range(8))
    cache.free(compute(cache, tokens))
    hit = cache.match_prefix(page_hashes([*tokens, 9]), 9)
    assert cache.can_admit(hit, 9, 16, headroom=0)
    assert not cache.can_admit(hit, 9, 17, headroom=0)
    assert not cache.can_admit(hit, 9, 16, headroom=1)
    held = cache.open_table(hit)
    assert cache.can_admit(hit, 9, 16, headroom=0), "pages held already cost nothing more"
    cache.check_integrity([held])


def test_committed_pages_outlive_their_sequence_tail_first():
    cache = make(num_pages=4)
    tokens = list(range(16))
    cache.free(compute(cache, tokens))
    table = cache.open_table(cache.match_prefix((), 5))
    cache.allocate(table, 5)
    # Two pages were reused, from the tail: the head is still there.
    assert cache.match_prefix(page_hashes([*tokens, 1]), 17).num_tokens == 8


def test_reset_forgets_everything_unless_pages_are_held():
    cache = make()
    tokens = list(range(8))
    table = compute(cache, tokens)
    assert not cache.reset_prefix_cache()
    cache.free(table)
    assert cache.reset_prefix_cache()
    assert cache.match_prefix(page_hashes([*tokens, 1]), 9).num_tokens == 0
    cache.check_integrity([])


@pytest.mark.parametrize("held", [True, False])
def test_forget_hides_pages_from_others(held):
    cache = make()
    tokens = list(range(8))
    table = compute(cache, tokens)
    if not held:
        cache.free(table)
    cache.forget(page_hashes(tokens))
    assert cache.match_prefix(page_hashes([*tokens, 1]), 9).num_tokens == 0


def test_capacity_of_one_sequence():
    full, window = KVGroup(None, ()), KVGroup(10, ())
    assert max_tokens_of_one_sequence([full], [8], P, 16) == 32
    needed = window_pages(10, 16, P)
    assert needed == 8
    assert max_tokens_of_one_sequence([full, window], [100, needed], P, 16) == 400
    assert max_tokens_of_one_sequence([full, window], [100, needed - 1], P, 16) == 28
    assert max_tokens_of_one_sequence([window], [needed], P, 16) == UNBOUNDED


@given(window=st.integers(1, 40), chunk=st.integers(1, 40), start=st.integers(0, 200))
def test_window_pages_are_enough_wherever_the_chunk_falls(window, chunk, start):
    first = first_live_column(start, window, P)
    last = (start + chunk - 1) // P
    assert last - first + 1 <= window_pages(window, chunk, P)
    # The column before the first is seen by no query of the chunk, the first one is.
    assert first * P <= max(0, start - window + 1) < (first + 1) * P
