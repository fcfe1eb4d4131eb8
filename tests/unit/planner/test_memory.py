"""The KV plan: what it promises holds for every mix of groups and memory sizes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.core.errors import InsufficientMemoryError
from quire.core.kv_spec import KVGroup, LayerKV
from quire.planner.memory import (
    Demand,
    KVPlan,
    cpu_token_cap,
    device_rows_bytes,
    kv_token_capacity,
    plan_kv,
)

GIB = 1 << 30


def group(num_layers: int, window: int | None = None, heads: int = 8, dim: int = 128) -> KVGroup:
    return KVGroup(window, tuple(LayerKV(i, heads, dim) for i in range(num_layers)))


LLAMA_8B = (group(32),)  # 128 KiB a token in bf16
GEMMA_LIKE = (group(10), group(50, window=1024))


def demand(
    groups: tuple[KVGroup, ...], page_size: int = 16, max_num_seqs: int = 256, budget: int = 8192
) -> Demand:
    return Demand(groups, page_size, max_num_seqs, budget)


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
    (page,) = demand(LLAMA_8B).page_bytes()
    assert page == 16 * 128 * 1024
    assert result.num_pages == (10 * GIB // page,)
    assert result.bytes == result.num_pages[0] * page
    assert (result.max_model_len, result.messages) == (8192, ())


def test_the_dtype_of_a_group_decides_how_many_pages_fit() -> None:
    halved = (replace(LLAMA_8B[0], dtype="float8_e4m3fn"),)
    assert plan(halved, GIB, 512).num_pages[0] == 2 * plan(LLAMA_8B, GIB, 512).num_pages[0]
    assert plan(halved, GIB, 512).bytes == plan(LLAMA_8B, GIB, 512).bytes


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
    even = 40 * GIB // sum(demand(GEMMA_LIKE).page_bytes())
    assert full > 2 * even
    assert window < even


@pytest.mark.parametrize("length", [512, 1024, 4096, 6144, 32768, 131072])
def test_shared_memory_is_never_worse_than_half_of_the_best(length: int) -> None:
    """The promise of `typical_length`: (f + s) / (f + 2 s) of the best split for any length."""
    available = 60 * GIB
    result = plan(GEMMA_LIKE, available, max_model_len=131072, max_num_seqs=100_000, budget=16)
    wanted = demand(GEMMA_LIKE, budget=16)
    best = available / wanted.sequence_bytes(length)
    got = min(pages / need for pages, need in zip(result.num_pages, wanted.peak(length)))
    f, s = wanted.page_bytes()
    assert got >= 0.98 * best * (f + s) / (f + 2 * s)


def test_typical_length() -> None:
    assert demand(GEMMA_LIKE).typical_length(131072) == 6 * 1024
    assert demand(GEMMA_LIKE).typical_length(2000) == 2000
    assert demand(LLAMA_8B).typical_length(4096) == 4096
    assert demand((group(8, window=512),)).typical_length(4096) == 4096


def test_window_only_model_needs_no_more_than_its_windows() -> None:
    groups = (group(32, window=4096),)
    result = plan(groups, 1000 * GIB, max_model_len=32768, max_num_seqs=8, budget=2048)
    assert list(result.num_pages) == demand(groups, 16, 8, 2048).most(32768)
    assert result.num_pages[0] < 8 * (4096 // 16 + 2) + 2048 // 16 + 1
    # The window of a sequence, and the chunk it computes in one step.
    assert plan(groups, GIB, 32768, budget=2048).max_model_len == 32768
    assert plan(groups, GIB // 2, 32768, budget=2048).max_model_len == 4096


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
        assert available < sum(demand(groups, page_size).page_bytes())
        return
    length = result.max_model_len
    wanted = demand(groups, page_size, max_num_seqs, budget)
    assert result.bytes == wanted.cost(result.num_pages) <= available
    assert 1 <= length <= max_model_len
    needs = demand(groups, page_size, budget=min(budget, max_model_len)).peak(length)
    for need, pages, most in zip(needs, result.num_pages, wanted.most(length)):
        assert need <= pages <= max(most, need)
    assert kv_token_capacity(groups, result, page_size) >= length
    if length < max_model_len:
        assert result.messages
        with pytest.raises(InsufficientMemoryError):
            attempt(True)
        assert wanted.sequence_bytes(length + 1) > available
    else:
        assert attempt(True) == result
