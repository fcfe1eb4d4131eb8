"""The KV plan: what it promises holds for every mix of groups and memory sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.core.errors import InsufficientMemoryError
from quire.core.kv_spec import KVGroup, LayerKV
from quire.planner.memory import (
    KVPlan,
    MemoryPlan,
    bytes_per_page,
    cpu_token_cap,
    describe,
    device_rows_bytes,
    fit_max_model_len,
    kv_token_capacity,
    max_useful_pages,
    peak_pages,
    plan_kv,
    typical_length,
)

GIB = 1 << 30


def group(num_layers: int, window: int | None = None, heads: int = 8, dim: int = 128) -> KVGroup:
    return KVGroup(window, tuple(LayerKV(i, heads, dim) for i in range(num_layers)))


LLAMA_8B = (group(32),)  # 128 KiB a token in bf16
GEMMA_LIKE = (group(10), group(50, window=1024))


def plan(
    groups: tuple[KVGroup, ...],
    available: int,
    max_model_len: int = 8192,
    *,
    explicit: bool = False,
    page_size: int = 16,
    max_num_seqs: int = 256,
    budget: int = 8192,
    override: int | None = None,
    cap: int | None = None,
) -> KVPlan:
    return plan_kv(
        groups,
        page_size,
        2,
        available,
        max_model_len,
        explicit,
        max_num_seqs,
        budget,
        override,
        cap,
    )


def test_one_full_group_takes_all_that_fits() -> None:
    result = plan(LLAMA_8B, 10 * GIB)
    page = bytes_per_page(LLAMA_8B[0], 16, 2)
    assert page == 16 * 128 * 1024
    assert result.num_pages == (10 * GIB // page,)
    assert result.bytes == result.num_pages[0] * page
    assert (result.max_model_len, result.messages) == (8192, ())


def test_no_more_than_the_sequences_can_use() -> None:
    result = plan(LLAMA_8B, 100 * GIB, max_model_len=100, max_num_seqs=4)
    assert result.num_pages == (4 * 7,)


def test_cpu_cap_keeps_a_tiny_model_small() -> None:
    tiny = (group(4, heads=2, dim=32),)
    cap = cpu_token_cap(128, 4096)
    assert cap == 128 * 1024
    result = plan(tiny, 9 * GIB, 4096, max_num_seqs=128, budget=2048, cap=cap)
    assert result.num_pages == (cap // 16,)
    assert result.bytes < GIB // 7
    # However small the cap, one sequence of max_model_len fits.
    assert plan(tiny, 9 * GIB, 4096, cap=16).num_pages == (256,)


def test_default_length_is_lowered_with_a_line_that_says_so() -> None:
    result = plan(LLAMA_8B, GIB, max_model_len=131072)
    assert result.max_model_len == 8192  # 1 GiB / 128 KiB
    assert result.num_pages == (512,)
    (message,) = result.messages
    assert message.startswith("max_model_len lowered from 131,072 to 8,192")
    assert "16.0 GiB" in message
    assert "1.0 GiB" in message
    assert "\n" not in message


def test_explicit_length_that_does_not_fit_is_an_error_with_the_numbers() -> None:
    with pytest.raises(InsufficientMemoryError) as error:
        plan(LLAMA_8B, GIB, max_model_len=131072, explicit=True)
    text = str(error.value)
    for part in (
        "131,072",
        "16.0 GiB",
        "1.0 GiB",
        "8,192",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "cpu_memory_fraction",
        "max_model_len",
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize("available", [0, -GIB, 1000])
def test_not_even_one_page(available: int) -> None:
    with pytest.raises(InsufficientMemoryError, match="free memory"):
        plan(LLAMA_8B, available)


def test_override_counts_for_every_group() -> None:
    result = plan(GEMMA_LIKE, 0, max_model_len=64, override=100)
    assert result.num_pages == (100, 100)
    assert plan(LLAMA_8B, 0, override=10).max_model_len == 160
    with pytest.raises(InsufficientMemoryError, match="num_gpu_blocks_override=10"):
        plan(LLAMA_8B, 0, override=10, explicit=True)


def test_model_without_attention_needs_nothing() -> None:
    assert plan((), 0) == KVPlan((), 8192, 0)


def test_windows_leave_the_memory_to_full_attention() -> None:
    """With long sequences the window group needs far fewer pages than an even split gives."""
    result = plan(GEMMA_LIKE, 40 * GIB, max_model_len=131072)
    full, window = result.num_pages
    even = 40 * GIB // sum(bytes_per_page(g, 16, 2) for g in GEMMA_LIKE)
    assert full > 2 * even
    assert window < even


@pytest.mark.parametrize("length", [512, 1024, 4096, 6144, 32768, 131072])
def test_shared_memory_is_never_worse_than_half_of_the_best(length: int) -> None:
    """The promise of `typical_length`: (f + s) / (f + 2 s) of the best split for any length."""
    available = 60 * GIB
    result = plan(GEMMA_LIKE, available, max_model_len=131072, max_num_seqs=100_000, budget=16)
    per_page = [bytes_per_page(g, 16, 2) for g in GEMMA_LIKE]
    needs = [peak_pages(g, length, 16, 16) for g in GEMMA_LIKE]
    best = available / sum(n * c for n, c in zip(needs, per_page))
    got = min(pages / need for pages, need in zip(result.num_pages, needs))
    f, s = per_page
    assert got >= 0.98 * best * (f + s) / (f + 2 * s)


def test_typical_length() -> None:
    assert typical_length(GEMMA_LIKE, 16, 2, 131072) == 6 * 1024
    assert typical_length(GEMMA_LIKE, 16, 2, 2000) == 2000
    assert typical_length(LLAMA_8B, 16, 2, 4096) == 4096
    assert typical_length((group(8, window=512),), 16, 2, 4096) == 4096


def test_window_only_model_needs_no_more_than_its_windows() -> None:
    groups = (group(32, window=4096),)
    result = plan(groups, 1000 * GIB, max_model_len=32768, max_num_seqs=8, budget=2048)
    assert result.num_pages == (max_useful_pages(groups[0], 8, 32768, 16, 2048),)
    assert result.num_pages[0] < 8 * (4096 // 16 + 2) + 2048 // 16 + 1
    # The window of a sequence, and the chunk it computes in one step.
    assert fit_max_model_len(groups, 16, 2, GIB, 32768, 2048) == 32768
    assert fit_max_model_len(groups, 16, 2, GIB // 2, 32768, 2048) == 4096


def test_device_rows() -> None:
    assert device_rows_bytes(4, 100, 16, 2) == 4 * 4 * (100 + 2 * 7)


windows = st.one_of(st.none(), st.integers(1, 300))
groups_of = st.lists(
    st.builds(group, st.integers(1, 4), windows, st.integers(1, 3), st.sampled_from([8, 16])),
    min_size=1,
    max_size=3,
).map(tuple)


@given(
    groups=groups_of,
    page_size=st.sampled_from([1, 8, 16, 32]),
    available=st.integers(0, 1 << 24),
    max_model_len=st.integers(1, 5000),
    max_num_seqs=st.integers(1, 64),
    budget=st.integers(1, 600),
    cap=st.one_of(st.none(), st.integers(1, 10_000)),
)
def test_every_plan_fits_and_holds_one_sequence(
    groups: tuple[KVGroup, ...],
    page_size: int,
    available: int,
    max_model_len: int,
    max_num_seqs: int,
    budget: int,
    cap: int | None,
) -> None:
    def attempt(explicit: bool) -> KVPlan:
        return plan(
            groups,
            available,
            max_model_len,
            explicit=explicit,
            page_size=page_size,
            max_num_seqs=max_num_seqs,
            budget=budget,
            cap=cap,
        )

    try:
        result = attempt(False)
    except InsufficientMemoryError:
        smallest = sum(bytes_per_page(g, page_size, 2) for g in groups)
        assert available < smallest
        return
    costs = [bytes_per_page(g, page_size, 2) for g in groups]
    assert result.bytes == sum(n * c for n, c in zip(result.num_pages, costs)) <= available
    assert 1 <= result.max_model_len <= max_model_len
    for g, pages in zip(groups, result.num_pages):
        need = peak_pages(g, result.max_model_len, page_size, min(budget, max_model_len))
        assert pages >= need
        most = max_useful_pages(g, max_num_seqs, result.max_model_len, page_size, budget)
        assert pages <= max(most, need)
    assert kv_token_capacity(groups, result, page_size) >= result.max_model_len
    if result.max_model_len < max_model_len:
        assert result.messages
        with pytest.raises(InsufficientMemoryError):
            attempt(True)
        longer = sum(
            peak_pages(g, result.max_model_len + 1, page_size, budget) * c
            for g, c in zip(groups, costs)
        )
        assert longer > available
    else:
        assert attempt(True) == result


def test_describe_reads_like_a_plan() -> None:
    kv = KVPlan((1000,), 8192, 100 * GIB, ("max_model_len lowered",))
    text = describe(MemoryPlan("NVIDIA H200", 141 * GIB, 15 * GIB, 2 * GIB, 50 << 20, kv, 804_000))
    lines = text.splitlines()
    assert lines[0] == "memory of NVIDIA H200, 141.0 GiB:"
    assert "804,000 tokens (98.1 sequences of 8,192)" in lines[2]
    assert lines[-1] == "  note: max_model_len lowered"
    assert "24.0 GiB" in lines[5]
