"""Routed experts in plain torch: every expert computes the tokens sent to it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.kernels.activation.reference import gated_act


def experts(
    x: Tensor,
    expert_ids: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    activation: str,
) -> Tensor:
    """Sum over a token's k experts of weight * down(act(gate(x)) * up(x)).

    x [T, E], expert_ids [T, k] int64, expert_weights [T, k], gate_up [X, 2F, E], down [X, E, F]
    -> [T, E]. The weighted sum is accumulated in fp32 and rounded once to x's dtype.
    """
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for expert in range(gate_up.shape[0]):
        tokens, choice = torch.where(expert_ids == expert)
        hidden = gated_act(F.linear(x[tokens], gate_up[expert]), activation)  # [t, F]
        y = F.linear(hidden, down[expert]).float()  # [t, E]
        out.index_add_(0, tokens, y * expert_weights[tokens, choice, None].float())
    return out.to(x.dtype)
