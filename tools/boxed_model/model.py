"""The training-time model: a Llama decoder in plain torch, with Hugging Face's parameter names.

Batches are rectangles of rows, each row one conversation padded on the right, so plain causal
attention is exact and needs no mask. Everything but attention runs on flattened tokens, so one
compiled version serves every row length. Inference is not here; export.py writes a checkpoint.

Shapes: T = rows * length tokens, E hidden, H query heads, K key/value heads, D head dim, V vocab.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model. The defaults give 7.08 M parameters, 14.2 MB in bf16."""

    vocab: int = 6144
    hidden: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    mlp: int = 640
    context: int = 2048
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


def rope_tables(
    shape: Shape, rows: int, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos and sin, each [T, D] fp32, for rows that each start at position 0."""
    inverse = shape.rope_theta ** (
        -torch.arange(0, shape.head_dim, 2, device=device).float() / shape.head_dim
    )
    angles = torch.outer(torch.arange(length, device=device).float(), inverse)  # [length, D/2]
    angles = torch.cat((angles, angles), dim=-1).repeat(rows, 1)  # [T, D]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: [T, H, D]. Half-split rotation, as in Hugging Face's Llama."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos[:, None, :].to(x.dtype) + turned * sin[:, None, :].to(x.dtype)


class RMSNorm(nn.Module):
    """Root mean square norm with a gain, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    """The four projections; names match the checkpoint."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.q_proj = nn.Linear(s.hidden, s.heads * s.head_dim, bias=False)
        self.k_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.v_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.o_proj = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden, s.mlp, bias=False)
        self.up_proj = nn.Linear(s.hidden, s.mlp, bias=False)
        self.down_proj = nn.Linear(s.mlp, s.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer, cut at attention so that both halves see flat tokens only."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s
        self.input_layernorm = RMSNorm(s.hidden, s.norm_eps)
        self.self_attn = Attention(s)
        self.post_attention_layernorm = RMSNorm(s.hidden, s.norm_eps)
        self.mlp = MLP(s)

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: [T, E]. Returns q [T, H, D], k and v [T, K, D]."""
        s, a = self.shape, self.self_attn
        h = self.input_layernorm(x)
        q = a.q_proj(h).view(-1, s.heads, s.head_dim)
        k = a.k_proj(h).view(-1, s.kv_heads, s.head_dim)
        v = a.v_proj(h).view(-1, s.kv_heads, s.head_dim)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """x: [T, E], attended: [T, H*D]. Returns [T, E]."""
        x = x + self.self_attn.o_proj(attended)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The model; call it with flat ids and the row length."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s
        self.embed_tokens = nn.Embedding(s.vocab, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.hidden, s.norm_eps)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 if "embed" in name else p.shape[1] ** -0.5 * 0.7
                nn.init.trunc_normal_(p, std=std, a=-3 * std, b=3 * std)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(p)  # each layer starts as the identity

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compiles the halves of the layers and the loss; attention stays a library call.

        Patches the classes, not the instances, so that all layers share one compiled version.
        """
        Layer.before = torch.compile(Layer.before, backend=backend)  # type: ignore[method-assign]
        Layer.after = torch.compile(Layer.after, backend=backend)  # type: ignore[method-assign]
        Decoder.loss_of = torch.compile(Decoder.loss_of, backend=backend)  # type: ignore[method-assign]

    def loss_of(self, x: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """x: [T, E], targets: [T], weights: [T]. Weighted mean and plain mean where weight is 1."""
        logits = F.linear(self.norm(x), self.embed_tokens.weight).float()  # [T, V]
        each = F.cross_entropy(logits, targets, reduction="none")
        spoken = (weights == 1).float()
        return (
            (each * weights).sum() / weights.sum().clamp_min(1.0),
            (each * spoken).sum() / spoken.sum().clamp_min(1.0),
        )

    def forward(self, ids: Tensor, length: int, rope: tuple[Tensor, Tensor]) -> Tensor:
        """ids: [T]. Returns the last hidden state [T, E] before the final norm."""
        s = self.shape
        x = self.embed_tokens(ids)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            q, k, v = layer.before(x, *rope)
            # [T, H, D] -> [rows, H, length, D]
            q, k, v = (
                t.view(-1, length, t.shape[1], s.head_dim).transpose(1, 2) for t in (q, k, v)
            )
            group = s.heads // s.kv_heads
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = layer.after(x, out.transpose(1, 2).reshape(-1, s.heads * s.head_dim))
        return x
