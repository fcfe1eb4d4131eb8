"""Muon for the layers' matrices, grouped by shape so that a step is a few batched products.

After Keller Jordan's Muon (2024): momentum, then the nearest semi-orthogonal matrix by five
Newton-Schulz steps in bf16. Embeddings and gains are left to AdamW, see train.py.
"""

import torch
from torch import Tensor, nn


def orthogonalize(g: Tensor) -> Tensor:
    """g: [n, rows, columns]. Approximately U V^T of each matrix's singular value decomposition."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x


class Muon:
    """Owns the momentum buffers; `step` changes the parameters in place."""

    def __init__(
        self, params: list[nn.Parameter], momentum: float = 0.95, weight_decay: float = 0.02
    ) -> None:
        groups: dict[torch.Size, list[Tensor]] = {}
        for p in params:
            groups.setdefault(p.shape, []).append(p)
        self._groups = list(groups.values())
        self._buffers = [torch.zeros(len(g), *g[0].shape, device=g[0].device) for g in self._groups]
        self._momentum, self._weight_decay = momentum, weight_decay

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One step at learning rate lr; gradients stay."""
        for group, buffer in zip(self._groups, self._buffers, strict=True):
            grad = torch.stack([p.grad for p in group if p.grad is not None])  # [n, rows, columns]
            buffer.lerp_(grad, 1 - self._momentum)
            update = orthogonalize(grad.lerp(buffer, self._momentum)).float()
            scale = max(1.0, group[0].shape[0] / group[0].shape[1]) ** 0.5
            torch._foreach_mul_(group, 1 - lr * self._weight_decay)
            torch._foreach_add_(group, list(update.unbind(0)), alpha=-lr * scale)
