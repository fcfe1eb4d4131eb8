"""Routed experts in torch, touching only the experts in use.

One sort brings each expert's tokens together, so the loop runs over the experts in use instead
of all of them. It reads the counts on the host, which on a GPU waits for the device.
"""

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
    """As `reference.experts`."""
    top_k = expert_ids.shape[1]
    flat = expert_ids.flatten()  # [T * k]
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=gate_up.shape[0]).tolist()
    weights = expert_weights.flatten()[order].float().unsqueeze(1)  # [T * k, 1]
    tokens = order // top_k
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    start = 0
    for expert, count in enumerate(counts):
        if count == 0:
            continue
        rows = tokens[start : start + count]
        hidden = gated_act(F.linear(x[rows], gate_up[expert]), activation)  # [count, F]
        y = F.linear(hidden, down[expert]).float()  # [count, E]
        out.index_add_(0, rows, y * weights[start : start + count])
        start += count
    return out.to(x.dtype)
