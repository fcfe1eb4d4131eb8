"""The ragged batch of one step as the model and the attention op see it."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """First keys that sequences of a batch share, as decode attention takes them.

    Args:
        tiles: [tiles, 99] int32, as `attention.shared.plan_tiles` has it; -1 is padding.
        splits: programs that share a tile's keys.
        num_slots: what `parts` and `tiles` name, or more.
    """

    tiles: Tensor
    splits: int
    num_slots: int


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """One KV group's view of the step. T tokens of S sequences, sequence by sequence.

    Args:
        query_starts: [S + 1] int32, sequence i's tokens are [query_starts[i], query_starts[i + 1]).
        seq_lens: [S] int32, tokens in the cache once this step's are written. The queries of
            sequence i stand at positions [seq_lens[i] - query_len, seq_lens[i]).
        rows: [S] int32, each sequence's row in `page_table`.
        page_table: [R, M] int32, page ids by row; column c holds positions [c * P, (c + 1) * P).
            Columns wholly outside a sliding window may be stale and must not be read.
        slots: [T] int64, where each token's keys and values go: page_id * P + offset.
        page_size: P.
        host_query_lens, host_seq_lens: [S] int32, the same numbers on the host.
        max_query_len, max_seq_len: their maxima.
        memo: what an op works out of the above in the step's first layer, for the others.
        parts: [W, 20] int32, how decode attention cuts the sequences of one query, as
            `attention.parts.plan_parts` has it; token -1 is padding. None where attention
            takes them like any others.
        arrivals: [R, K] int32 zeros beside `parts`; left zero.
        shared: the keys that `parts` leaves out.
        blocks: by window and heads that share a KV head, how prefill attention cuts the others, as
            `attention.blocks.plan_blocks` has it: made by the step's first layer that needs it, but
            before a capture. They are to be written before each replay.
        captured: for a CUDA graph: what is on the host are bounds, not this step's numbers.
    """

    query_starts: Tensor
    seq_lens: Tensor
    rows: Tensor
    page_table: Tensor
    slots: Tensor
    page_size: int
    host_query_lens: np.ndarray
    host_seq_lens: np.ndarray
    max_query_len: int
    max_seq_len: int
    parts: Tensor | None = None
    arrivals: Tensor | None = None
    shared: SharedPrefixes | None = None
    captured: bool = False
    memo: dict[tuple[int | None, int], object] = field(default_factory=dict)
    blocks: dict[tuple[int | None, int], Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What the model's forward takes.

    Args:
        token_ids: [T] int64.
        positions: [T] int64, a token's index in its sequence.
        groups: one `AttentionBatch` per KV group, in the recipe's order.
    """

    token_ids: Tensor
    positions: Tensor
    groups: tuple[AttentionBatch, ...]


# Keys and values of one layer, each [N, K, P, D].
LayerCache = tuple[Tensor, Tensor]
