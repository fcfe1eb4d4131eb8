"""Page hashes: chained, salted, and unambiguous."""

from hypothesis import given
from hypothesis import strategies as st

from quire.kv.hashing import DIGEST_BYTES, extend_page_hashes

TOKENS = st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8)


def hashes(token_ids, num_pages, page_size=4, salt=""):
    found: list[bytes] = []
    extend_page_hashes(found, token_ids, num_pages, page_size, salt)
    return found


def test_extending_gives_what_hashing_at_once_gives():
    token_ids = list(range(100, 120))
    at_once = hashes(token_ids, 5)
    step_by_step: list[bytes] = []
    for num_pages in (0, 1, 1, 3, 5):
        extend_page_hashes(step_by_step, token_ids, num_pages, 4, "")
        assert len(step_by_step) == num_pages
    assert step_by_step == at_once
    assert all(len(h) == DIGEST_BYTES for h in at_once)


@given(a=TOKENS, b=TOKENS)
def test_hashes_agree_exactly_as_far_as_the_tokens_do(a, b):
    ours, theirs = hashes(a, 2), hashes(b, 2)
    assert (ours[0] == theirs[0]) == (a[:4] == b[:4])
    assert (ours[1] == theirs[1]) == (a == b)


def test_the_same_page_after_another_page_is_another_page():
    assert hashes([1, 2, 3, 4] * 2, 2)[0] != hashes([1, 2, 3, 4] * 2, 2)[1]
    assert hashes([0, 0, 0, 1, 5, 6, 7, 8], 2)[1] != hashes([0, 0, 0, 2, 5, 6, 7, 8], 2)[1]


def test_salts_never_share():
    assert hashes([1, 2, 3, 4], 1, salt="alice")[0] != hashes([1, 2, 3, 4], 1, salt="bob")[0]
    assert hashes([1, 2, 3, 4], 1, salt="alice")[0] != hashes([1, 2, 3, 4], 1)[0]


def test_token_boundaries_count():
    """Fixed width: no two token lists have the same bytes."""
    assert hashes([1, 256, 0, 0], 1) != hashes([257, 0, 0, 0], 1)
