"""Content addresses of pages: a chain of cryptographic hashes over a sequence's tokens.

A page's hash covers its own tokens and, through the hash of the page before it, every token
that came earlier; equal hashes mean equal keys and values. Only full pages have one.

The hash must withstand an adversary: a collision would let one user's request read keys and
values of another's. So it is BLAKE2b, not Python's `hash`, with a 256-bit digest: 16 tokens and
the previous digest (96 bytes) still fit one 128-byte compression, so the wide digest costs no
time over a narrow one. Tokens are fixed-width integers, so no two token lists have the same
bytes. Requests with different cache salts start from different roots and never share.
"""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b

DIGEST_BYTES = 32


def root_hash(cache_salt: str) -> bytes:
    """What stands before the first page of every sequence with this salt."""
    # `person` keeps a salt from ever hashing like a page.
    return blake2b(cache_salt.encode(), digest_size=DIGEST_BYTES, person=b"cache salt").digest()


def extend_page_hashes(
    page_hashes: list[bytes],
    token_ids: Sequence[int],
    num_pages: int,
    page_size: int,
    cache_salt: str,
) -> None:
    """Append the hashes of pages [len(page_hashes), num_pages) of `token_ids`, in place.

    Token ids are in [0, 2**32); `token_ids` covers at least `num_pages` full pages.
    """
    pack = _packer(page_size)
    previous = page_hashes[-1] if page_hashes else root_hash(cache_salt)
    for page in range(len(page_hashes), num_pages):
        start = page * page_size
        tokens = pack(*token_ids[start : start + page_size])
        previous = blake2b(previous + tokens, digest_size=DIGEST_BYTES).digest()
        page_hashes.append(previous)


@lru_cache(maxsize=8)
def _packer(page_size: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{page_size}I").pack
