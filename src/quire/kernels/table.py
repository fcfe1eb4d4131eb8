"""The ops table: which implementation of each op a device uses, chosen once, and why.

All implementations of an op have exactly the signature given here. T tokens, E hidden, H query
heads, K KV heads, D head dim, F MLP width, X experts, S sequences, V vocabulary, N pages,
P tokens per page, L rope table length.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from quire.kernels.batch import AttentionBatch

# rms_norm(x [..., E], weight [E], eps, weight_offset) -> [..., E], statistics in fp32
RmsNorm = Callable[[Tensor, Tensor, float, float], Tensor]
# add_rms_norm(x [T, E], residual [T, E], weight [E], eps, weight_offset)
#   -> (norm(x + residual), x + residual)
AddRmsNorm = Callable[[Tensor, Tensor, Tensor, float, float], tuple[Tensor, Tensor]]
# rope(q [T, H, D], k [T, K, D], table [L, rotary_dim] fp32 = cos then sin halves,
#   positions [T], interleaved) -> None; rotates the first rotary_dim of q and k in place
Rope = Callable[[Tensor, Tensor, Tensor, Tensor, bool], None]
# write_kv(k [T, K, D], v [T, K, D], k_pages [N, K, P, D], v_pages, slots [T] int64) -> None
WriteKV = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
# attention(q [T, H, D], k_pages, v_pages, batch, scale, window, softcap) -> [T, H, D]
Attention = Callable[
    [Tensor, Tensor, Tensor, AttentionBatch, float, int | None, float | None], Tensor
]
# gated_act(x [T, 2F] = gate then up, activation) -> act(gate) * up [T, F]
GatedAct = Callable[[Tensor, str], Tensor]
# experts(x [T, E], expert_ids [T, k] int64, expert_weights [T, k], gate_up [X, 2F, E],
#   down [X, E, F], activation) -> [T, E]
Experts = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, str], Tensor]
# sample(logits [S, V] fp32, temperature [S], top_k [S] int32 (0 off), top_p [S], min_p [S],
#   seed [S] int64, positions [S] int64) -> token ids [S] int64, -1 where a row is not a number
Sample = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Ops:
    """One implementation per op. `reasons` maps op name -> "what: why" for `explain()`."""

    rms_norm: RmsNorm
    add_rms_norm: AddRmsNorm
    rope: Rope
    write_kv: WriteKV
    attention: Attention
    gated_act: GatedAct
    experts: Experts
    sample: Sample
    reasons: dict[str, str]

    def explain(self) -> str:
        """A line per op: the implementation in use and the reason."""
        return "\n".join(f"{name}: {reason}" for name, reason in self.reasons.items())
