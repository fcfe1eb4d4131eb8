"""Prompts by FlashAttention-3, an optional package, where it is faster than our own kernel.

H200, bf16, 32 / 8 heads of 128, pages of 16 in random order, 2026-11-22, microseconds of a call in
a CUDA graph, ours and its: 4 x 2048 325 and 300, 16 x 512 145 and 127, 1 x 8000 950 and 960,
1 x 512 15.4 and 15.0, 512 tokens onto 8000 122 and 131; in another run 2048 tokens onto 16384 965
and 1035, one token each of 128 sequences of 1060 133 and 177. A call costs the host about as much
as ours. So it takes steps of many tokens of sequences that are not long, and none in graphs: those
are of few.
"""

import importlib.util

import torch
from torch import Tensor

from quire.kernels.batch import AttentionBatch
from quire.kernels.table import Attention

MIN_TOKENS = 2048  # of a step
MAX_LEN = 4096  # at 2048 keys it was ahead, at 8000 ours
HEAD_DIM = 128  # others were not timed
# It copies whole pages of a multiple of so many slots, and multiplies weights of zero by whatever
# the slots past a sequence's end hold: NaN, if another request left it there.
WHOLE_PAGE = 128
NEEDED = ("PAGEDKV", "VARLEN", "FP16", "HDIM128")  # parts that a build may lack


def missing() -> str | None:
    """Why it cannot be used on a Hopper, None if it can."""
    if importlib.util.find_spec("flash_attn_interface") is None:
        return "not installed"
    try:
        import flash_attn_interface  # noqa: F401
        from flash_attn_config import CONFIG
    except ImportError as error:  # built for another torch
        return f"not importable ({error})"
    flags = CONFIG["build_flags"]
    disabled = [part for part in NEEDED if flags[f"FLASHATTENTION_DISABLE_{part}"]]
    return f"built without {', '.join(disabled)}" if disabled else None


def serves(
    q: Tensor, k_pages: Tensor, batch: AttentionBatch, window: int | None, softcap: float | None
) -> bool:
    """Whether it takes the call: prompts alone, since it would take single queries too."""
    return (
        len(q) >= MIN_TOKENS
        and batch.max_seq_len <= MAX_LEN
        and not batch.captured
        and (batch.parts is None or len(batch.parts) == 0)
        and q.shape[2] == HEAD_DIM
        and q.dtype == k_pages.dtype
        and q.dtype.itemsize == 2
        and batch.page_size % WHOLE_PAGE != 0
        and window is None
        and softcap is None
    )


def attention_of(ours: Attention) -> Attention:
    """`ours`, but for the calls that FlashAttention-3 takes."""
    from flash_attn_interface import flash_attn_with_kvcache

    def attention(
        q: Tensor,
        k_pages: Tensor,
        v_pages: Tensor,
        batch: AttentionBatch,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        # A start captures its largest step to see what it needs, and to have our kernel for it.
        is_captured = q.is_cuda and torch.cuda.is_current_stream_capturing()
        if is_captured or not serves(q, k_pages, batch, window, softcap):
            return ours(q, k_pages, v_pages, batch, scale, window, softcap)
        out: Tensor = flash_attn_with_kvcache(
            q,
            k_pages.transpose(1, 2),  # [N, P, K, D]
            v_pages.transpose(1, 2),
            cache_seqlens=batch.seq_lens,
            page_table=torch.index_select(batch.page_table, 0, batch.rows),
            cu_seqlens_q=batch.query_starts,
            max_seqlen_q=batch.max_query_len,
            softmax_scale=scale,
            causal=True,
            num_splits=1,
        )
        return out

    return attention
