"""The memory plan: how the bytes of one device are split, and how many KV pages that gives.

Knows integers only: no torch, no device, no model. What is measured (free memory, the activation
peak) is passed in.

How KV groups share the memory
    A full-attention group needs a page per P tokens of every sequence; a sliding-window group
    only the pages in its window. Their page counts are set so that both run out at the same
    time when all sequences have one typical length L0 (`Demand.typical_length`): the length for
    which the worst case over all actual lengths is least bad. No group gets more than
    `max_num_seqs` sequences can use, and each gets at least what one sequence of
    `max_model_len` needs.
"""

from bisect import bisect_left
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


def pages_for(tokens: int, page_size: int) -> int:
    return -(-tokens // page_size)


def device_rows_bytes(
    max_num_seqs: int, max_model_len: int, page_size: int, num_groups: int
) -> int:
    """Bytes of the persistent device rows: int32 token ids [R, L] and page tables [R, M]."""
    width = pages_for(max_model_len, page_size)
    return 4 * max_num_seqs * (max_model_len + num_groups * width)


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


def kv_token_capacity(groups: Sequence[KVGroup], plan: KVPlan, page_size: int) -> int:
    """Tokens of concurrent sequences of `max_model_len` that the pages of `plan` hold."""
    if not groups:
        return 0
    shares = [
        pages / steady_pages(g, plan.max_model_len, page_size)
        for g, pages in zip(groups, plan.num_pages)
    ]
    return int(min(shares) * plan.max_model_len)


@dataclass(frozen=True, slots=True)
class Demand:
    """What sequences ask of the KV groups. `step_tokens` is a step's token budget."""

    groups: Sequence[KVGroup]
    page_size: int
    max_num_seqs: int
    step_tokens: int

    def page_bytes(self) -> list[int]:
        """Bytes of one page of each group, over all its layers."""
        return [g.bytes_per_token * self.page_size for g in self.groups]

    def steady(self, length: int) -> list[int]:
        """Pages of each group that a decoding sequence of `length` tokens holds."""
        return [steady_pages(g, length, self.page_size) for g in self.groups]

    def peak(self, length: int) -> list[int]:
        """Pages of each group that one such sequence holds at most, its largest chunk of prompt
        included: the chunk's tokens are written before the oldest leave the window."""
        whole = pages_for(length, self.page_size)
        return [
            whole
            if g.window is None
            else min(whole, window_pages(g.window, self.step_tokens, self.page_size))
            for g in self.groups
        ]

    def most(self, length: int) -> list[int]:
        """Pages of each group beyond which no batch of sequences so long can use more.

        The step's token budget is shared, so its chunks are counted once, with a page more for
        each sequence's partly filled one.
        """
        whole = self.max_num_seqs * pages_for(length, self.page_size)
        chunks = pages_for(self.step_tokens, self.page_size)
        return [
            whole if g.window is None else min(whole, self.max_num_seqs * (steady + 1) + chunks)
            for g, steady in zip(self.groups, self.steady(length))
        ]

    def sequence_bytes(self, length: int) -> int:
        """Bytes of the pages that a single sequence of `length` tokens needs at most."""
        return self.cost(self.peak(length))

    def cost(self, num_pages: Sequence[int]) -> int:
        """Bytes of so many pages of each group."""
        return sum(n * size for n, size in zip(num_pages, self.page_bytes()))

    def typical_length(self, max_model_len: int) -> int:
        """L0, the sequence length at which all groups shall run out of pages together.

        With one full group (f bytes a token) and windows of w tokens (s bytes a token), planning
        for L0 serves shorter requests worse by (f + s)w / (f L0 + s w) at worst and longer ones
        by f L0 / (f L0 + s w); the two are equal, so the worst case is best, at
        L0 = w (f + s) / f. Several windows add up.
        """
        full = spread = widest = 0
        for group in self.groups:
            if group.window is None:
                full += group.bytes_per_token
            else:
                spread += group.window * group.bytes_per_token
                widest = max(widest, group.window)
        if not full or not widest:
            return max_model_len
        return min(max_model_len, widest + -(-spread // full))


def plan_kv(
    groups: Sequence[KVGroup],
    page_size: int,
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
    step_tokens = min(max_num_batched_tokens, max_num_seqs * max_model_len)
    demand = Demand(groups, page_size, max_num_seqs, step_tokens)
    if num_pages_override is None:
        fit = _largest(lambda n: demand.sequence_bytes(n) <= available_bytes, max_model_len)
    else:
        limit = num_pages_override
        available_bytes = demand.cost([limit] * len(groups))
        fit = _largest(lambda n: max(demand.peak(n)) <= limit, max_model_len)
    messages: tuple[str, ...] = ()
    if fit < max_model_len:
        need = demand.sequence_bytes(max_model_len)
        text = _does_not_fit(max_model_len, need, available_bytes, fit, num_pages_override)
        if explicit or fit < 1:
            raise InsufficientMemoryError(text)
        messages = (f"max_model_len lowered from {max_model_len:,} to {fit:,}: {text}",)
    if num_pages_override is None:
        num_pages = _share(demand, available_bytes, fit, token_cap)
    else:
        num_pages = [num_pages_override] * len(groups)
    return KVPlan(tuple(num_pages), fit, demand.cost(num_pages), messages)


def gib(size: int) -> str:
    """A size for a person: GiB from 0.1 up, else MiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB // 10 else f"{size / (1 << 20):.1f} MiB"


def _share(demand: Demand, available: int, max_model_len: int, token_cap: int | None) -> list[int]:
    """Pages of each group; see the module's docstring. One sequence is known to fit."""
    least, most = demand.peak(max_model_len), demand.most(max_model_len)
    if token_cap is not None:
        most = [min(m, pages_for(token_cap, demand.page_size)) for m in most]
    most = [max(low, high) for low, high in zip(least, most)]
    each = demand.steady(demand.typical_length(max_model_len))
    # What the step's chunks add to a window group, once and not for every sequence.
    chunk = pages_for(demand.step_tokens, demand.page_size)
    extra = [0 if g.window is None else chunk for g in demand.groups]

    def pages(sequences_256ths: int) -> list[int]:
        first = min(sequences_256ths, 256)  # the chunks come with the first sequence
        wanted = [(e * sequences_256ths + x * first) // 256 for e, x in zip(each, extra)]
        return [min(max(w, low), high) for w, low, high in zip(wanted, least, most)]

    bound = 256 * max(-(-m // e) for m, e in zip(most, each))
    result = pages(_largest(lambda n: demand.cost(pages(n)) <= available, bound))
    # Rounding leaves a little; the full group, which comes first, has the most use for it.
    left = available - demand.cost(result)
    for index, cost in enumerate(demand.page_bytes()):
        more = min(left // cost, most[index] - result[index])
        result[index] += more
        left -= more * cost
    return result


def _does_not_fit(
    length: int, need: int, available: int, fit: int, num_pages_override: int | None
) -> str:
    """One line: what is needed, what there is, and the options that change it."""
    remedy = f"set max_model_len to at most {fit:,}" if fit else "free memory"
    needs = f"one sequence of {length:,} tokens needs {gib(need)} of KV cache, "
    if num_pages_override is not None:
        return (
            f"{needs}num_gpu_blocks_override={num_pages_override} gives {gib(available)}; "
            f"{remedy} or raise num_gpu_blocks_override"
        )
    return (
        f"{needs}{gib(max(0, available))} are there; {remedy}, or raise gpu_memory_utilization "
        "(GPU), cpu_memory_fraction (CPU) or kv_cache_memory_bytes"
    )


def _largest(holds: Callable[[int], bool], bound: int) -> int:
    """The largest n in [0, bound] for which the monotone `holds(n)`; 0 if none."""
    return bisect_left(range(1, bound + 1), True, key=lambda n: not holds(n))
