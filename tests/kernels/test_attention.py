"""Paged attention against the reference and against dense attention.

Every case holds NaN in all pages and slots that no query sees (see `paged_case`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quire.kernels.attention.blocks import ROWS, max_blocks, plan_blocks
from quire.kernels.attention.parts import (
    AWAITED,
    END,
    END_LINE,
    FIRST,
    FIRST_LINE,
    NUM_PARTS,
    OWN,
    PART,
    ROW,
    SEQ_LEN,
    SLOT,
    TOKEN,
    max_parts,
    num_programs,
    plan_parts,
)
from quire.kernels.attention.reference import attention as reference_attention
from quire.kernels.attention.shared import PrefixGroup, num_tiles, plan_tiles, seen_elsewhere
from quire.kernels.attention.tuning import DECODE_KEYS, PART_KEYS, decode_stages
from quire.kernels.batch import SharedPrefixes
from quire.kernels.select import triton_ops
from quire.kernels.table import HeadNorm, Ops, Rope

Check = Callable[[Tensor, Tensor], None]

MIXED = [(1, 1), (33, 33), (1, 70), (5, 21), (1, 16)]
BLOCKS = [(70, 300), (1, 129), (150, 150), (40, 290)]
DECODE = [(1, 1), (1, 8), (1, 9), (1, 130), (1, 40)]

CASES: dict[str, dict[str, Any]] = {
    "mixed": {"lens": MIXED},
    "one token": {"lens": [(1, 1)]},
    "one prompt": {"lens": [(20, 20)]},
    "one page, full": {"lens": [(8, 8)]},
    "decode": {"lens": DECODE},
    "chunk of a long prompt": {"lens": [(7, 100)]},
    "window": {"lens": MIXED, "window": 12},
    "window, decode": {"lens": DECODE, "window": 17},
    "window of one": {"lens": [(1, 9), (4, 30)], "window": 1},
    "soft cap": {"lens": MIXED, "softcap": 2.0},
    "soft cap, window, decode": {"lens": DECODE, "softcap": 2.0, "window": 10},
    "heads alone": {"lens": MIXED, "heads": 3, "kv_heads": 3},
    "group of 3": {"lens": MIXED, "heads": 6, "kv_heads": 2},
    "group of 16": {"lens": [(1, 30), (3, 9)], "heads": 16, "kv_heads": 1},
    "group of 40": {"lens": [(1, 30), (2, 9)], "heads": 40, "kv_heads": 1},
    "group of 40, decode": {"lens": [(1, 30), (1, 9)], "heads": 40, "kv_heads": 1},
    "group of 7, decode": {"lens": DECODE, "heads": 7, "kv_heads": 1},
    "head 80": {"lens": [(9, 40), (1, 20)], "head_dim": 80, "page_size": 16},
    "head 96, decode": {"lens": [(1, 40), (1, 20)], "head_dim": 96, "page_size": 32},
    "head 112": {"lens": [(3, 20)], "head_dim": 112, "page_size": 64},
    "head 128": {"lens": [(40, 90), (1, 10)], "head_dim": 128, "page_size": 32},
    "head 256": {"lens": [(3, 33), (1, 40)], "head_dim": 256, "page_size": 16},
    "head 256, decode": {"lens": [(1, 33)], "head_dim": 256, "page_size": 16},
    "head 64": {"lens": [(3, 5), (70, 70)], "head_dim": 64, "page_size": 64},
    "blocks across key tiles": {"lens": BLOCKS},
    "blocks, window": {"lens": BLOCKS, "window": 100, "page_size": 24},
    "blocks, soft cap, window": {"lens": BLOCKS, "softcap": 2.0, "window": 9, "page_size": 1},
    "blocks, group of 7": {"lens": [(40, 200), (1, 3)], "heads": 7, "kv_heads": 1},
    "blocks, head 80": {"lens": [(70, 140)], "heads": 2, "head_dim": 80, "page_size": 16},
    "blocks, head 256": {"lens": [(66, 140)], "heads": 2, "head_dim": 256, "page_size": 16},
}


# Triton's interpreter is slow, so on a CPU only some cases run in 16 bits.
IN_16_BITS = (
    list(CASES) if torch.cuda.is_available() else ["mixed", "decode", "soft cap", "head 80"]
)
IN_16_BITS_ON_A_GPU = [torch.bfloat16] if torch.cuda.is_available() else []
CASES_BY_DTYPE = [
    *((name, torch.float32) for name in CASES),
    *((name, dtype) for dtype in (torch.bfloat16, torch.float16) for name in IN_16_BITS),
]


@pytest.mark.parametrize(("name", "as_dtype"), CASES_BY_DTYPE, ids=str)
def test_attention(
    ops: Ops,
    name: str,
    as_dtype: torch.dtype,
    paged_case: Callable[..., Any],
    check: Check,
    poison: None,
) -> None:
    settings = dict(CASES[name])
    softcap = settings.pop("softcap", None)
    case = paged_case(**settings, dtype=as_dtype)
    window = settings.get("window")
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.2, window, softcap)
    expected = reference_attention(*arguments)
    assert not expected.isnan().any()
    check(ops.attention(*arguments), expected)


def close_in_8_bits(actual: Tensor, expected: Tensor) -> None:
    """A value in fifty may be rounded the other way: what is rounded may differ in its last bit."""
    a, b = actual.float().nan_to_num(7.0), expected.float().nan_to_num(7.0)
    torch.testing.assert_close(a, b, atol=2**-9, rtol=0.26)
    assert (a != b).float().mean() < 0.02


CACHE_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
CACHES = [
    *((name, torch.float32, cache) for name in IN_16_BITS for cache in CACHE_DTYPES),
    *((name, torch.bfloat16, torch.float8_e4m3fn) for name in IN_16_BITS),
    *((name, torch.float16, torch.bfloat16) for name in IN_16_BITS),
]


@pytest.mark.parametrize(("name", "as_dtype", "cache_dtype"), CACHES, ids=str)
def test_pages_of_another_dtype(
    ops: Ops,
    name: str,
    as_dtype: torch.dtype,
    cache_dtype: torch.dtype,
    paged_case: Callable[..., Any],
    check: Check,
    poison: None,
) -> None:
    settings = dict(CASES[name])
    softcap = settings.pop("softcap", None)
    case = paged_case(**settings, dtype=as_dtype, cache_dtype=cache_dtype)
    window = settings.get("window")
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.2, window, softcap)
    expected = reference_attention(*arguments)
    assert not expected.isnan().any()
    check(ops.attention(*arguments), expected)


def test_single_queries_without_parts(
    ops: Ops, paged_case: Callable[..., Any], check: Check, poison: None
) -> None:
    """Attention then takes them like any others."""
    for lens in ([(1, 9), (70, 90), (1, 30)], [(1, 9), (1, 30)]):
        case = paged_case(lens).with_batch(parts=None)
        arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.2, None, None)
        check(ops.attention(*arguments), reference_attention(*arguments))


def test_more_blocks_than_the_device_takes_at_once(
    native_ops: Ops, paged_case: Callable[..., Any], check: Check, poison: None
) -> None:
    """Twice, since the second layer of a step uses the first one's plan."""
    lens = [(1100, 1100), (1, 40), (700, 900)]
    case = paged_case(lens, heads=32, kv_heads=16, head_dim=64, dtype=torch.bfloat16)
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.1, None, None)
    expected = reference_attention(*arguments)
    for _ in range(2):
        check(native_ops.attention(*arguments), expected)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"),
    [(32, 8, 128), (16, 1, 128), (8, 1, 256), (12, 12, 80), (32, 2, 64), (7, 1, 112)],
)
def test_a_step_of_decodes_shared_by_many_programs(
    native_ops: Ops,
    heads: int,
    kv_heads: int,
    head_dim: int,
    paged_case: Callable[..., Any],
    check: Check,
    poison: None,
) -> None:
    """Programs with several sequences, sequences with several programs; twice, since counts of
    the first call would show in the second."""
    lens = [(1, n) for n in (1, 2, 1000, 64, 65, 3000, 66, 129, 700, 5)]
    sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "page_size": 16}
    case = paged_case(lens, **sizes, dtype=torch.bfloat16)
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.1, None, None)
    expected = reference_attention(*arguments)
    for _ in range(2):
        check(native_ops.attention(*arguments), expected)
    assert not case.batch.arrivals.any()


@pytest.mark.parametrize("window", [None, 300])
def test_long_contexts_split_their_keys(
    ops: Ops, window: int | None, paged_case: Callable[..., Any], check: Check, poison: None
) -> None:
    """Long and short sequences together: some splits of the short ones are empty."""
    case = paged_case([(1, 1500), (1, 3), (1, 700)], page_size=64, kv_heads=1, window=window)
    assert len(case.batch.parts) > 3
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.3, window, None)
    check(ops.attention(*arguments), reference_attention(*arguments))
    assert not case.batch.arrivals.any()


@pytest.mark.parametrize("norm_offset", [None, 0.0, 1.0], ids=["no norm", "norm", "norm + 1"])
@pytest.mark.parametrize(
    "settings",
    [
        {"lens": DECODE, "rope": "halves"},
        {"lens": DECODE, "rope": "pairs", "window": 17, "softcap": 2.0},
        {"lens": [(1, 300), (1, 3)], "rope": "part", "head_dim": 80, "page_size": 16},
        {"lens": [(1, 9), (1, 290)], "rope": None, "heads": 6, "kv_heads": 2},
        {"lens": [(1, 129)], "rope": "halves", "heads": 16, "kv_heads": 1, "dtype": torch.float16},
        {"lens": DECODE, "rope": "halves", "window": 1, "dtype": torch.float16},
    ],
    ids=["halves", "pairs, window", "part of a head", "no rope", "group of 16", "window of one"],
)
@pytest.mark.parametrize("as_dtype", [torch.float32, *IN_16_BITS_ON_A_GPU], ids=str)
def test_decode_attention_prepares_its_heads(
    reference: Ops,
    settings: dict[str, Any],
    as_dtype: torch.dtype,
    norm_offset: float | None,
    paged_case: Callable[..., Any],
    device: torch.device,
    randn: Callable[..., Tensor],
    check: Check,
    poison: None,
) -> None:
    """One launch against prepare_qkv and attention one after the other."""
    settings = {"dtype": as_dtype} | settings
    kind, softcap = settings.pop("rope"), settings.pop("softcap", None)
    case = paged_case(**settings)
    kv_heads, head_dim = case.k_pages.shape[1], case.k_pages.shape[3]
    k, v = randn(2, len(case.q), kv_heads, head_dim, dtype=case.q.dtype)
    rope = norm = None
    if kind is not None:
        rotary_dim = head_dim // 2 if kind == "part" else head_dim
        rope = Rope(randn(400, rotary_dim), interleaved=kind == "pairs")
    if norm_offset is not None:
        norm = HeadNorm(*randn(2, head_dim, dtype=case.q.dtype), 1e-6, norm_offset)
    how = (0.2, settings.get("window"), softcap)
    own = [case.q.clone(), case.k_pages.clone(), case.v_pages.clone()]
    positions = case.batch.seq_lens - 1
    reference.prepare_qkv(
        own[0], k.clone(), v, norm, rope, positions, own[1], own[2], case.batch.slots
    )
    expected = reference_attention(*own, case.batch, *how)
    by_parts = triton_ops(8, "test").by_parts
    assert by_parts is not None
    actual = by_parts.decode(case.q, k, v, norm, rope, case.k_pages, case.v_pages, case.batch, *how)
    check(actual, expected)
    check(case.k_pages.nan_to_num(), own[1].nan_to_num())
    check(case.v_pages.nan_to_num(), own[2].nan_to_num())


@pytest.mark.parametrize("cache_dtype", CACHE_DTYPES, ids=str)
@pytest.mark.parametrize("lens", [DECODE, [(1, 9), (1, 290)]], ids=str)
@pytest.mark.parametrize("head_dim", [16, 80, 256])
def test_decode_attention_into_8_bits(
    reference: Ops,
    cache_dtype: torch.dtype,
    lens: list[tuple[int, int]],
    head_dim: int,
    paged_case: Callable[..., Any],
    device: torch.device,
    randn: Callable[..., Tensor],
    check: Check,
    poison: None,
) -> None:
    """The new key is attended to as its page holds it. Triton's interpreter cannot round to 8 bits:
    there the keys and values are such as need no rounding, but for those beyond the range."""
    case = paged_case(lens, head_dim=head_dim, dtype=torch.float16, cache_dtype=cache_dtype)
    k, v = randn(2, len(case.q), 2, head_dim, dtype=torch.float16)
    v[0, 0, 3], k[0, 0, 5] = 6e4, -6e4
    norm = rope = None
    if device.type == "cuda":
        rope = Rope(randn(400, head_dim), interleaved=False)
        norm = HeadNorm(*randn(2, head_dim, dtype=torch.float16), 1e-6, 0.0)
    else:
        k, v = (torch.where(x.abs() < 100, x.to(cache_dtype).half(), x) for x in (k, v))
    own = [case.q.clone(), case.k_pages.clone(), case.v_pages.clone()]
    positions = case.batch.seq_lens - 1
    reference.prepare_qkv(
        own[0], k.clone(), v, norm, rope, positions, own[1], own[2], case.batch.slots
    )
    by_parts = triton_ops(8, "test").by_parts
    assert by_parts is not None
    cache = (case.k_pages, case.v_pages)
    actual = by_parts.decode(case.q, k, v, norm, rope, *cache, case.batch, 0.2, None, None)
    check(actual, reference_attention(own[0], *cache, case.batch, 0.2, None, None))
    for pages, expected in zip(cache, own[1:], strict=True):
        close_in_8_bits(pages, expected)


def test_queries_in_a_fused_projection(
    ops: Ops, paged_case: Callable[..., Any], check: Check, randn: Callable[..., Tensor]
) -> None:
    for lens in (MIXED, DECODE):
        case = paged_case(lens)
        fused = randn(case.q.shape[0], 8 * 16)
        q = fused[:, : 4 * 16].unflatten(1, (4, 16))
        rest = (case.k_pages, case.v_pages, case.batch, 0.25, None, None)
        check(ops.attention(q, *rest), reference_attention(q.contiguous(), *rest))


def test_keys_and_values_side_by_side(
    ops: Ops, paged_case: Callable[..., Any], check: Check
) -> None:
    """k_pages and v_pages may be halves of one tensor [N, 2, K, P, D]."""
    for lens in (MIXED, DECODE):
        case = paged_case(lens)
        k_pages, v_pages = torch.stack([case.k_pages, case.v_pages], dim=1).unbind(1)
        expected = reference_attention(
            case.q, case.k_pages, case.v_pages, case.batch, 0.25, None, None
        )
        check(ops.attention(case.q, k_pages, v_pages, case.batch, 0.25, None, None), expected)


def test_no_tokens(ops: Ops, paged_case: Callable[..., Any]) -> None:
    case = paged_case([])
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 1.0, None, None)
    assert ops.attention(*arguments).shape == case.q.shape


def test_sequences_without_queries(
    ops: Ops, paged_case: Callable[..., Any], check: Check, poison: None
) -> None:
    for lens in ([(0, 9), (1, 12), (0, 3)], [(0, 9), (4, 12), (0, 3), (2, 2)]):
        case = paged_case(lens)
        arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.25, None, None)
        check(ops.attention(*arguments), reference_attention(*arguments))


@pytest.mark.parametrize("as_dtype", [torch.float32, *IN_16_BITS_ON_A_GPU], ids=str)
def test_a_captured_batch_has_room_for_more(
    as_dtype: torch.dtype, paged_case: Callable[..., Any], check: Check, poison: None
) -> None:
    """Tokens of no sequence, sequences of no token and parts and blocks of neither change
    nothing."""
    for lens in (MIXED, [(70, 90)], []):
        case = paged_case(lens, dtype=as_dtype)
        blocks = plan_blocks(*np.array(lens, np.int32).reshape(-1, 2).T, 2, None, True)
        batch, count = case.batch, len(case.q)
        expected = reference_attention(case.q, case.k_pages, case.v_pages, batch, 0.25, None, None)
        padded = dataclasses.replace(
            batch,
            query_starts=F.pad(batch.query_starts, (0, 7), value=count),
            seq_lens=F.pad(batch.seq_lens, (0, 7)),
            rows=F.pad(batch.rows, (0, 7)),
            max_query_len=128,
            parts=F.pad(batch.parts, (0, 0, 0, 9), value=-1),
            captured=True,
            blocks={
                (None, 2): F.pad(torch.from_numpy(blocks).to(case.q.device), (0, 0, 0, 9), value=9)
            },
        )
        q = F.pad(case.q, (0, 0, 0, 0, 0, 128 - count), value=float("nan"))
        attend = triton_ops(8, "test").attention
        out = attend(q, case.k_pages, case.v_pages, padded, 0.25, None, None)
        check(out[:count], expected)
        assert not batch.arrivals.any()


def with_shared_prefixes(
    case: Any, members: list[tuple[list[int], int]], splits: int, padding: int = 0
) -> Any:
    """Sequences of a case made to begin in the same pages; members: (which, how many keys)."""
    batch = case.batch
    table, rows, lens = batch.page_table.clone(), batch.rows.tolist(), batch.host_seq_lens
    groups = []
    for which, num_keys in members:
        pages = table[rows[which[0]], : num_keys // batch.page_size].clone()
        for index in which:
            table[rows[index], : len(pages)] = pages
        groups.append(PrefixGroup(np.array(which), num_keys))
    host_rows = np.array(rows, np.int32)
    kv_heads = case.k_pages.shape[1]
    starts = np.arange(len(rows) + 1, dtype=np.int32)
    first_keys, num_stored = seen_elsewhere(groups, len(rows), splits)
    parts = plan_parts(starts, host_rows, lens, None, kv_heads, first_keys, num_stored, num_cores=8)
    tiles = plan_tiles(groups, host_rows, lens, parts, splits)
    assert len(tiles) == num_tiles(groups)
    tiles = np.concatenate([tiles, np.full((padding, tiles.shape[1]), -1, np.int32)])
    shared = SharedPrefixes(
        torch.from_numpy(tiles).to(table.device), splits, len(parts) + int(num_stored.sum())
    )
    parts = torch.from_numpy(parts).to(table.device)
    return case.with_batch(page_table=table, parts=parts, shared=shared)


SHARED = {
    "all": {"lens": [200, 70, 90], "members": [([0, 1, 2], 64)]},
    "nothing but the new key": {"lens": [65, 200, 65], "members": [([0, 2], 64)]},
    "some, in shares": {"lens": [9, 300, 40, 330], "members": [([3, 1], 288)], "splits": 4},
    "two groups": {"lens": [80, 90, 30, 85, 25, 31], "members": [([1, 3, 0], 72), ([2, 5], 24)]},
    "more than a tile": {"lens": [20] * 34, "members": [(list(range(1, 34)), 16)]},
    "group of 7": {"lens": [90, 70], "members": [([1, 0], 64)], "heads": 7, "kv_heads": 1},
    "group of 16": {"lens": [90, 70], "members": [([1, 0], 64)], "heads": 16, "kv_heads": 1},
    "head 80": {"lens": [90, 70], "members": [([0, 1], 64)], "head_dim": 80},
}


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("as_dtype", [torch.float32, *IN_16_BITS_ON_A_GPU], ids=str)
def test_shared_prefixes(
    reference: Ops,
    name: str,
    as_dtype: torch.dtype,
    paged_case: Callable[..., Any],
    randn: Callable[..., Tensor],
    check: Check,
    poison: None,
) -> None:
    """Keys that sequences share, seen once for all; twice, since counts of the first call would
    show in the second. With heads prepared and to be prepared."""
    ops = triton_ops(8, "test")
    settings = dict(SHARED[name])
    members, splits = settings.pop("members"), settings.pop("splits", 1)
    lens = [(1, length) for length in settings.pop("lens")]
    case = paged_case(lens, **settings, dtype=as_dtype)
    case = with_shared_prefixes(case, members, splits, padding=2)
    for softcap in (None, 2.0):
        arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.2, None, softcap)
        expected = reference_attention(*arguments)
        assert not expected.isnan().any()
        check(ops.attention(*arguments), expected)
    kv_heads, head_dim = case.k_pages.shape[1], case.k_pages.shape[3]
    k, v = randn(2, len(case.q), kv_heads, head_dim, dtype=as_dtype)
    rope = Rope(randn(400, head_dim), interleaved=False)
    norm = HeadNorm(*randn(2, head_dim, dtype=as_dtype), 1e-6, 0.0)
    own = [case.q.clone(), case.k_pages.clone(), case.v_pages.clone()]
    positions = case.batch.seq_lens - 1
    reference.prepare_qkv(
        own[0], k.clone(), v, norm, rope, positions, own[1], own[2], case.batch.slots
    )
    expected = reference_attention(*own, case.batch, 0.2, None, None)
    assert ops.by_parts is not None
    cache = case.k_pages, case.v_pages
    actual = ops.by_parts.decode(case.q, k, v, norm, rope, *cache, case.batch, 0.2, None, None)
    check(actual, expected)
    assert not case.batch.arrivals.any()


def test_many_decodes_of_very_different_lengths(
    ops: Ops, paged_case: Callable[..., Any], check: Check, poison: None
) -> None:
    lens = [(1, int(n)) for n in np.random.default_rng(3).integers(1, 200, 24)]
    case = paged_case(lens, heads=2, kv_heads=1)
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.25, None, None)
    check(ops.attention(*arguments), reference_attention(*arguments))


@pytest.mark.parametrize("window", [None, 6])
def test_reference_is_dense_attention(
    window: int | None, paged_case: Callable[..., Any], device: torch.device
) -> None:
    """The oracle itself, on one whole prompt, against torch's attention."""
    case = paged_case([(30, 30)], heads=6, kv_heads=2)
    pages = case.batch.slots // case.batch.page_size
    offsets = case.batch.slots % case.batch.page_size
    k, v = case.k_pages[pages, :, offsets], case.v_pages[pages, :, offsets]  # [L, K, D]
    distance = torch.arange(30, device=device)[:, None] - torch.arange(30, device=device)
    visible = (distance >= 0) & (distance < (window or 30))
    expected = F.scaled_dot_product_attention(
        case.q.transpose(0, 1),
        k.transpose(0, 1).repeat_interleave(3, dim=0),
        v.transpose(0, 1).repeat_interleave(3, dim=0),
        attn_mask=visible,
        scale=0.25,
    ).transpose(0, 1)
    actual = reference_attention(case.q, case.k_pages, case.v_pages, case.batch, 0.25, window, None)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("group", "window"), [(1, None), (7, None), (4, 50)])
def test_blocks_cover_every_row_once_the_longest_first(group: int, window: int | None) -> None:
    query_lens = np.array([1, 0, 300, 64, 1], np.int32)
    seq_lens = np.array([900, 4, 300, 1000, 1], np.int32)
    starts = [0, 1, 1, 301, 365]
    for skip_single in (False, True):
        plan = plan_blocks(query_lens, seq_lens, group, window, skip_single)
        num_blocks, blocks = plan[0, 0], plan[1:]
        assert num_blocks == len(blocks) <= max_blocks(366, 5, group)
        covered = [np.zeros(n * group, int) for n in query_lens]
        keys = []
        for sequence, start, offset, first, end in blocks.tolist():
            assert start == starts[sequence]
            assert offset == seq_lens[sequence] - query_lens[sequence]
            assert end == query_lens[sequence] * group
            covered[sequence][first : min(first + ROWS, end)] += 1
            seen = offset + (min(first + ROWS, end) - 1) // group + 1
            keys.append(seen if window is None else min(seen, window + (ROWS - 1) // group))
        for query_len, counts in zip(query_lens, covered, strict=True):
            assert (counts == (0 if skip_single and query_len == 1 else 1)).all()
        assert keys == sorted(keys, reverse=True)


@pytest.mark.parametrize("num_kv_heads", [1, 8, 300])
@pytest.mark.parametrize("window", [None, 300])
@pytest.mark.parametrize(
    "lens", [[8192], [500], [20, 1], [1024] * 256, [1 << 20], [100_000] + [500] * 63, [1, 65, 66]]
)
def test_parts_cover_every_key_in_equal_shares(
    lens: list[int], window: int | None, num_kv_heads: int
) -> None:
    seq_lens = np.array([1, *lens], np.int32)
    starts = np.array([0, *range(3, 4 + len(lens))], np.int32)  # the first one prefills
    rows = np.arange(len(seq_lens), dtype=np.int32)[::-1]
    parts = plan_parts(starts, rows, seq_lens, window, num_kv_heads, num_cores=132)
    assert len(parts) <= max_parts(len(seq_lens), num_kv_heads, 132)
    tiles = np.zeros(len(parts), int)
    for sequence in range(1, len(seq_lens)):
        of = np.flatnonzero(parts[:, TOKEN] == starts[sequence])
        own = parts[of]
        assert (np.diff(of) == 1).all()
        assert (own[:, ROW] == rows[sequence]).all()
        assert (own[:, SEQ_LEN] == seq_lens[sequence]).all()
        assert own[:, PART].tolist() == list(range(len(own)))
        assert (own[:, NUM_PARTS] == len(own)).all()
        assert own[0, FIRST] == max(seq_lens[sequence] - (window or 1 << 30), 0)
        assert own[-1, END] == seq_lens[sequence]
        assert (own[1:, FIRST] == own[:-1, END]).all()
        keys = own[:, END] - own[:, FIRST]
        keys[-1] -= 1  # the new one is not read from a page
        tiles[of] = np.maximum(-(-keys // PART_KEYS), 1)
    programs = num_programs(len(lens), num_kv_heads, 132)
    assert not parts[programs:, FIRST_LINE:].any()
    assert parts[:, SLOT].tolist() == list(range(len(parts)))
    assert (parts[:, AWAITED] == parts[:, NUM_PARTS]).all()
    used = parts[:programs]
    assert (used[:, OWN:] == parts[used[:, FIRST_LINE], :FIRST_LINE])[used[:, END_LINE] > 0].all()
    lines = [range(*own) for own in used[:, FIRST_LINE : END_LINE + 1]]
    assert [line for own in lines for line in own] == list(range(len(parts)))
    work = [tiles[own].sum() for own in lines if own]
    assert max(work) - min(work) <= 1


@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_chained_programs_that_are_to_be_alone_fit_alone(head_dim: int) -> None:
    stages = decode_stages(head_dim, 2, programs=1, is_chained=True)
    size = 2 * 2 * stages * DECODE_KEYS * head_dim
    assert size + 16384 <= 232448 < 2 * size  # bytes of shared memory on Hopper
