"""The memory plan: how the bytes of one device are split, and how many KV pages that gives.

The runner sizes its tensors with these formulas, and `quire` prints the same plan. Knows
integers only: no torch, no device, no model. What is measured (free memory, the activation
peak) is passed in.

How KV groups share the memory
    A full-attention group needs a page per P tokens of every sequence; a sliding-window group
    only the pages in its window. Their page counts are set so that both run out at the same
    time when all sequences have one typical length L0 (`typical_length`): the length for
    which the worst case over all actual lengths is least bad. No group gets more than
    `max_num_seqs` sequences can use, and each gets at least what one sequence of
    `max_model_len` needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quire.core.errors import InsufficientMemoryError
from quire.core.kv_spec import KVGroup
from quire.kv.capacity import window_pages

GIB = 1 << 30
# On a CPU the cache of a tiny model would otherwise take gigabytes that no batch ever uses:
# it holds this many tokens for each of max_num_seqs sequences (or two of the longest).
CPU_TOKENS_PER_SEQUENCE = 1024


@dataclass(frozen=True, slots=True)
class KVPlan:
    """Pages of each KV group, and the longest sequence they hold.

    `messages` are lines for the user: what was lowered, and why.
    """

    num_pages: tuple[int, ...]
    max_model_len: int
    bytes: int
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where one device's memory goes. All sizes in bytes; `device` is its name for the user."""

    device: str
    total: int
    weights: int
    activations: int
    rows: int
    kv: KVPlan
    kv_tokens: int  # tokens of max_model_len-long sequences the KV cache holds


def pages_for(tokens: int, page_size: int) -> int:
    """Pages that hold `tokens` tokens."""
    return -(-tokens // page_size)


def bytes_per_page(group: KVGroup, page_size: int, itemsize: int) -> int:
    """Bytes of one page over all layers of `group`."""
    return group.elements_per_token * page_size * itemsize


def device_rows_bytes(
    max_num_seqs: int, max_model_len: int, page_size: int, num_groups: int
) -> int:
    """Bytes of the persistent device rows: int32 token ids [R, L] and page tables [R, M]."""
    width = pages_for(max_model_len, page_size)
    return 4 * max_num_seqs * (max_model_len + num_groups * width)


def estimate_activations(
    num_tokens: int, hidden_size: int, mlp_size: int, vocab_size: int, max_num_seqs: int, item: int
) -> int:
    """Peak bytes of a step's temporaries where no measurement exists.

    Two residual streams and the widest projection (gate and up together, then their product)
    of every token, and fp32 logits with one working copy for each sampling sequence.
    """
    per_token = item * (4 * hidden_size + 3 * mlp_size)
    return num_tokens * per_token + min(num_tokens, max_num_seqs) * vocab_size * 4 * 2


def cpu_token_cap(max_num_seqs: int, max_model_len: int) -> int:
    """The most tokens of KV cache worth having on a CPU."""
    return max(2 * max_model_len, max_num_seqs * min(max_model_len, CPU_TOKENS_PER_SEQUENCE))


def steady_pages(group: KVGroup, length: int, page_size: int) -> int:
    """Pages a decoding sequence of `length` tokens holds. A window may begin and end within
    a page, hence one more than its width."""
    whole = pages_for(length, page_size)
    if group.window is None:
        return whole
    return min(whole, pages_for(group.window, page_size) + 1)


def peak_pages(group: KVGroup, length: int, page_size: int, max_num_batched_tokens: int) -> int:
    """Pages a single sequence of `length` tokens holds at most, its largest chunk of prompt
    included: the chunk's tokens are written before the oldest leave the window."""
    whole = pages_for(length, page_size)
    if group.window is None:
        return whole
    return min(whole, window_pages(group.window, max_num_batched_tokens, page_size))


def max_useful_pages(
    group: KVGroup,
    max_num_seqs: int,
    max_model_len: int,
    page_size: int,
    max_num_batched_tokens: int,
) -> int:
    """Pages beyond which no batch of `max_num_seqs` sequences can use more.

    The step's token budget is shared, so its chunks are counted once, with a page more for
    each sequence's partly filled one.
    """
    whole = max_num_seqs * pages_for(max_model_len, page_size)
    if group.window is None:
        return whole
    steady = max_num_seqs * (steady_pages(group, max_model_len, page_size) + 1)
    return min(whole, steady + pages_for(max_num_batched_tokens, page_size))


def typical_length(
    groups: Sequence[KVGroup], page_size: int, itemsize: int, max_model_len: int
) -> int:
    """L0, the sequence length at which all groups shall run out of pages together.

    With one full group (f bytes a token) and windows of w tokens (s bytes a token), planning
    for L0 serves shorter requests worse by (f + s)w / (f L0 + s w) at worst and longer ones
    by f L0 / (f L0 + s w); the two are equal, so the worst case is best, at
    L0 = w (f + s) / f. Several windows add up.
    """
    full = sum(bytes_per_page(g, page_size, itemsize) for g in groups if g.window is None)
    windows = [g for g in groups if g.window is not None]
    if not full or not windows:
        return max_model_len
    widest = max(g.window or 0 for g in windows)
    spread = sum((g.window or 0) * bytes_per_page(g, page_size, itemsize) for g in windows)
    return min(max_model_len, widest + -(-spread // full))


def fit_max_model_len(
    groups: Sequence[KVGroup],
    page_size: int,
    itemsize: int,
    available_bytes: int,
    max_model_len: int,
    max_num_batched_tokens: int,
) -> int:
    """The largest length in [0, max_model_len] of which one sequence fits `available_bytes`."""

    def fits(length: int) -> bool:
        need = _sequence_bytes(groups, page_size, itemsize, length, max_num_batched_tokens)
        return need <= available_bytes

    return _largest(fits, max_model_len)


def plan_kv(
    groups: Sequence[KVGroup],
    page_size: int,
    itemsize: int,
    available_bytes: int,
    max_model_len: int,
    explicit: bool,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    num_pages_override: int | None = None,
    token_cap: int | None = None,
) -> KVPlan:
    """Pages for each KV group out of `available_bytes`, and the `max_model_len` they allow.

    Args:
        explicit: `max_model_len` is the user's; else it may be lowered to what fits.
        num_pages_override: this many pages for every group, whatever is available.
        token_cap: no more than this many tokens for the full group (see `cpu_token_cap`).

    Raises:
        InsufficientMemoryError: not even one sequence fits, or not one of an explicit
            `max_model_len`.
    """
    if not groups:
        return KVPlan((), max_model_len, 0)
    max_num_batched_tokens = min(max_num_batched_tokens, max_num_seqs * max_model_len)
    costs = [bytes_per_page(g, page_size, itemsize) for g in groups]
    if num_pages_override is not None:
        available_bytes = num_pages_override * sum(costs)
        fit = _largest(
            lambda n: _peak(groups, n, page_size, max_num_batched_tokens) <= num_pages_override,
            max_model_len,
        )
    else:
        fit = fit_max_model_len(
            groups, page_size, itemsize, available_bytes, max_model_len, max_num_batched_tokens
        )
    messages: list[str] = []
    if fit < max_model_len:
        need = _sequence_bytes(groups, page_size, itemsize, max_model_len, max_num_batched_tokens)
        text = _does_not_fit(max_model_len, need, available_bytes, fit, num_pages_override)
        if explicit or fit < 1:
            raise InsufficientMemoryError(text)
        messages.append(f"max_model_len lowered from {max_model_len:,} to {fit:,}: {text}")
    if num_pages_override is not None:
        num_pages = [num_pages_override] * len(groups)
    else:
        num_pages = _share(
            groups,
            costs,
            page_size,
            available_bytes,
            fit,
            max_num_seqs,
            max_num_batched_tokens,
            typical_length(groups, page_size, itemsize, fit),
            token_cap,
        )
    used = sum(n * c for n, c in zip(num_pages, costs))
    return KVPlan(tuple(num_pages), fit, used, tuple(messages))


def kv_token_capacity(groups: Sequence[KVGroup], plan: KVPlan, page_size: int) -> int:
    """Tokens of concurrent sequences of `max_model_len` that the pages of `plan` hold."""
    if not groups:
        return 0
    shares = [
        pages / steady_pages(g, plan.max_model_len, page_size)
        for g, pages in zip(groups, plan.num_pages)
    ]
    return int(min(shares) * plan.max_model_len)


def describe(plan: MemoryPlan) -> str:
    """The plan in lines for a person."""
    sequences = plan.kv_tokens / plan.kv.max_model_len
    cache = f"{plan.kv_tokens:,} tokens ({sequences:,.1f} sequences of {plan.kv.max_model_len:,})"
    left = plan.total - plan.weights - plan.activations - plan.rows - plan.kv.bytes
    return "\n".join(
        (
            f"memory of {plan.device}, {gib(plan.total)}:",
            f"  weights      {gib(plan.weights):>11}",
            f"  KV cache     {gib(plan.kv.bytes):>11} = {cache}",
            f"  activations  {gib(plan.activations):>11}",
            f"  device rows  {gib(plan.rows):>11}",
            f"  left         {gib(max(0, left)):>11}",
            *(f"  note: {message}" for message in plan.kv.messages),
        )
    )


def gib(size: int) -> str:
    """A size for a person: GiB from 0.1 up, else MiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB // 10 else f"{size / (1 << 20):.1f} MiB"


def _share(
    groups: Sequence[KVGroup],
    costs: Sequence[int],
    page_size: int,
    available: int,
    max_model_len: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    typical: int,
    token_cap: int | None,
) -> list[int]:
    """Pages of each group; see the module's docstring. One sequence is known to fit."""
    least = [peak_pages(g, max_model_len, page_size, max_num_batched_tokens) for g in groups]
    most = [
        max_useful_pages(g, max_num_seqs, max_model_len, page_size, max_num_batched_tokens)
        for g in groups
    ]
    if token_cap is not None:
        most = [min(m, pages_for(token_cap, page_size)) for m in most]
    most = [max(low, high) for low, high in zip(least, most)]
    # What the step's chunks add to a window group, once and not for every sequence.
    chunk = pages_for(max_num_batched_tokens, page_size)
    extra = [chunk if g.window is not None else 0 for g in groups]
    each = [steady_pages(g, typical, page_size) for g in groups]

    def pages(sequences_256ths: int) -> list[int]:
        first = min(sequences_256ths, 256)  # the chunks come with the first sequence
        wanted = [(e * sequences_256ths + x * first) // 256 for e, x in zip(each, extra)]
        return [min(max(w, low), high) for w, low, high in zip(wanted, least, most)]

    def fits(sequences_256ths: int) -> bool:
        return sum(n * c for n, c in zip(pages(sequences_256ths), costs)) <= available

    bound = 256 * max(-(-m // e) for m, e in zip(most, each))
    result = pages(_largest(fits, bound))
    # Rounding leaves a little; the full group, which comes first, has the most use for it.
    left = available - sum(n * c for n, c in zip(result, costs))
    for index, cost in enumerate(costs):
        more = min(left // cost, most[index] - result[index])
        result[index] += more
        left -= more * cost
    return result


def _peak(groups: Sequence[KVGroup], length: int, page_size: int, budget: int) -> int:
    return max(peak_pages(g, length, page_size, budget) for g in groups)


def _sequence_bytes(
    groups: Sequence[KVGroup], page_size: int, itemsize: int, length: int, budget: int
) -> int:
    """Bytes of the pages that a single sequence of `length` tokens needs at most."""
    return sum(
        peak_pages(g, length, page_size, budget) * bytes_per_page(g, page_size, itemsize)
        for g in groups
    )


def _does_not_fit(
    length: int, need: int, available: int, fit: int, num_pages_override: int | None
) -> str:
    """One line: what is needed, what there is, and the options that change it."""
    remedy = f"set max_model_len to at most {fit:,}" if fit else "free memory"
    if num_pages_override is not None:
        return (
            f"one sequence of {length:,} tokens needs {gib(need)} of KV cache, "
            f"num_gpu_blocks_override={num_pages_override} gives {gib(available)}; {remedy} or "
            "raise num_gpu_blocks_override"
        )
    return (
        f"one sequence of {length:,} tokens needs {gib(need)} of KV cache, "
        f"{gib(max(0, available))} are there; {remedy}, or raise gpu_memory_utilization (GPU), "
        "cpu_memory_fraction (CPU) or kv_cache_memory_bytes"
    )


def _largest(holds: Callable[[int], bool], bound: int) -> int:
    """The largest n in [0, bound] for which the monotone `holds(n)`; 0 if none."""
    low, high = 0, bound
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
