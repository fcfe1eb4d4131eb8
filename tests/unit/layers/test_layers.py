"""Layers against their formulas, in the combinations no released family has yet."""

import pytest
import torch
from torch import Tensor

from quire.kernels.activation.reference import ACTIVATIONS
from quire.kernels.select import torch_ops
from quire.layers.embedding import Embedder, Table
from quire.layers.experts import Experts
from quire.layers.head import Head
from quire.layers.mlp import make_mlp
from quire.layers.norm import make_norm
from quire.layers.parameters import Maker
from quire.layers.residual import make_enter, make_leave
from quire.models.recipe import (
    EmbeddingRecipe,
    HeadRecipe,
    MlpRecipe,
    MoeRecipe,
    NormRecipe,
)

OPS = torch_ops("a test")
MAKE = Maker(torch.float32, torch.device("cpu"), OPS)
RMS = NormRecipe("rms", 1e-5)
LAYER = NormRecipe("layer", 1e-5, bias=True)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def filled(module: torch.nn.Module) -> torch.nn.Module:
    for parameter in module.parameters():
        parameter.data.normal_()
    return module


def norm(recipe: NormRecipe, size: int = 8):
    made = make_norm(recipe, size, OPS, MAKE)
    filled(made)
    return made


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


@pytest.mark.parametrize("recipe", [RMS, LAYER, NormRecipe("layer", 1e-5, affine=False)])
def test_adding_and_normalising_is_one_after_the_other(recipe: NormRecipe) -> None:
    made = norm(recipe)
    x, residual = torch.randn(2, 3, 8)
    normed, total = made.add(x.clone(), residual.clone())
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(normed, made(x + residual))


def test_rms_norm_with_an_offset() -> None:
    made = norm(NormRecipe("rms", 1e-5, weight_offset=1.0))
    x = torch.randn(3, 8)
    torch.testing.assert_close(made(x), rms(x, made.weight + 1.0))


@pytest.mark.parametrize("multiplier", [1.0, 0.25])
@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("opened", [False, True])
def test_a_sublayer_in_the_stream(
    opened: bool, before: bool, after: bool, closes: bool, multiplier: float
) -> None:
    """x = closing(x + multiplier * after(f(before(x)))), whichever norms there are."""
    n1, n2, n3 = (norm(RMS) if there else None for there in (before, after, closes))
    delta, residual = torch.randn(2, 3, 8)
    stream = delta + residual if opened else delta

    def f(x: Tensor) -> Tensor:
        return x.sin() + 0.5

    inner = f(rms(stream, n1.weight) if n1 else stream)
    inner = rms(inner, n2.weight) if n2 else inner
    expected = stream + multiplier * inner
    expected = rms(expected, n3.weight) if n3 else expected

    x, stream_now = make_enter(n1, opened)(delta, residual)
    delta, residual = make_leave(n2, n3, multiplier)(f(x), stream_now)
    whole = delta if closes else delta + residual
    torch.testing.assert_close(whole, expected)


def test_every_step_of_an_embedding() -> None:
    recipe = EmbeddingRecipe(6, 3.0, num_positions=10, position_offset=2)
    embed = Embedder(recipe, 20, 8, OPS, MAKE)
    parts = {name: filled(module) for name, module in embed.modules.items()}
    assert list(parts) == ["embedding", "project_in", "positions"]
    ids, positions = torch.tensor([3, 19]), torch.tensor([0, 9])
    expected = 3.0 * parts["embedding"].weight[ids] @ parts["project_in"].weight.T
    expected = expected + parts["positions"].weight[positions + 2]
    assert parts["positions"].weight.shape == (12, 8)
    torch.testing.assert_close(embed(ids, positions), expected)


def test_an_embedding_multiplier_can_be_rounded_to_the_dtype() -> None:
    make = Maker(torch.bfloat16, torch.device("cpu"), OPS)
    recipe = EmbeddingRecipe(8, 3072**0.5, round_multiplier=True)
    embed = Embedder(recipe, 4, 8, OPS, make)
    embed.table.weight.data.fill_(1.0)
    assert embed(torch.tensor([1]), torch.tensor([0]))[0, 0].item() == 55.5


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "relu", "relu2"])
@pytest.mark.parametrize("bias", [False, True])
def test_mlp(activation, bias: bool) -> None:
    act = ACTIVATIONS[activation]
    x = torch.randn(3, 8)
    gated = make_mlp(MlpRecipe(5, activation, bias=bias), 8, MAKE)
    filled(gated)
    both = torch.nn.functional.linear(x, gated.gate_up.weight, gated.gate_up.bias)
    gate, up = both.split(5, dim=-1)
    torch.testing.assert_close(gated(x), gated.down(act(gate) * up))
    plain = make_mlp(MlpRecipe(5, activation, gated=False, bias=bias), 8, MAKE)
    filled(plain)
    torch.testing.assert_close(plain(x), plain.down(act(plain.up(x))))
    assert (plain.up.bias is not None) == bias


def test_squared_relu() -> None:
    x = torch.tensor([-2.0, 3.0])
    assert ACTIVATIONS["relu2"](x).tolist() == [0.0, 9.0]


@pytest.mark.parametrize("renormalize", [False, True])
def test_experts_are_weighed_by_their_share(renormalize: bool) -> None:
    recipe = MoeRecipe(4, 2, 5, "silu", renormalize)
    experts = Experts(recipe, 8, OPS, MAKE)
    filled(experts)
    x = torch.randn(6, 8)
    shares = (x @ experts.router.weight.T).softmax(-1)
    expected = torch.zeros_like(x)
    for t in range(6):
        best = shares[t].argsort(descending=True)[:2].tolist()
        total = shares[t, best].sum() if renormalize else 1.0
        for e in best:
            gate, up = (experts.gate_up[e] @ x[t]).split(5)
            out = experts.down[e] @ (torch.nn.functional.silu(gate) * up)
            expected[t] += shares[t, e] / total * out
    torch.testing.assert_close(experts(x), expected, rtol=1e-4, atol=1e-5)


def test_logits_are_fp32_scaled_then_capped() -> None:
    make = Maker(torch.bfloat16, torch.device("cpu"), OPS)
    head = Head(HeadRecipe(False, bias=True, softcap=3.0, multiplier=0.5), 10, 8, None, make)
    filled(head)
    hidden = torch.randn(2, 8).bfloat16()
    raw = torch.nn.functional.linear(hidden, head.weight, head.bias).float()
    logits = head(hidden)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, 3.0 * torch.tanh(0.5 * raw / 3.0))


def test_a_tied_head_is_the_embedding() -> None:
    table = Table(MAKE, OPS.lookup, 10, 8)
    head = Head(HeadRecipe(True), 10, 8, table, MAKE)
    assert head.weight is table.weight
