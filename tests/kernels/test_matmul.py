"""The linear layer over every layout, from one token to more than the kernels take."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from quire.kernels.matmul.cpp_panels import held_in_panels
from quire.kernels.select import cpp_ops
from quire.kernels.table import Ops
from quire.platform import native
from quire.platform.native import open_library, usable_sets
from quire.quant.layouts.int4_group import Int4Group
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Fp8Channel, Int8Channel
from quire.weights.targets import Staging

LIBRARY, _ = open_library()
PACKED = [] if LIBRARY is None else ["dense", "int8", "int4"]
LAYOUTS = {"dense": Dense, "fp8": Fp8Channel, "int8": Int8Channel, "int4": Int4Group}


def made(layout: type[Layout], dense: Tensor) -> Layout:
    weight = layout.empty(*dense.shape, dense.dtype, dense.device)
    weight.fill(dense)
    return weight


def layers(
    ops: Ops,
    layout: str,
    outputs: int,
    inputs: int,
    dtype: torch.dtype,
    randn: Callable[..., Tensor],
) -> tuple[Layout, Layout]:
    """A weight as the ops want it held, and in its layout."""
    dense = randn(outputs, inputs, dtype=dtype) / inputs**0.5
    return made(ops.held(LAYOUTS[layout], dtype), dense), made(LAYOUTS[layout], dense)


def deviation(actual: Tensor, expected: Tensor) -> float:
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


@pytest.fixture
def rows_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Small weights get the tiles of large ones too."""
    tuning = pytest.importorskip("quire.kernels.matmul.tuning")
    tiles = (tuning.dense_tile, tuning.fp8_tile)
    monkeypatch.setattr(tuning, "FEW", tuning.FEW if request.param == "few" else 0)
    monkeypatch.setattr(tuning, "MANY", 0 if request.param == "many" else tuning.MANY)
    for tile in tiles:
        tile.cache_clear()
    yield request.param
    for tile in tiles:
        tile.cache_clear()


@pytest.mark.parametrize("num_tokens", [0, 1, 2, 8, 13, 40, 100, 130])
@pytest.mark.parametrize(
    ("outputs", "inputs", "bias", "activation", "half"),
    [
        (48, 256, False, None, torch.bfloat16),
        (70, 1048, True, "silu", torch.float16),
        (6, 24, False, "gelu", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows_class", ["few", "middle", "many"], indirect=True)
def test_linear(
    ops: Ops,
    reference: Ops,
    rows_class: str,
    layout: str,
    outputs: int,
    inputs: int,
    bias: bool,
    activation: str | None,
    half: torch.dtype,
    num_tokens: int,
    randn: Callable[..., Tensor],
    interpreted: bool,
    poison: None,
) -> None:
    held, weight = layers(ops, layout, outputs, inputs, half, randn)
    offset = randn(outputs, dtype=half) if bias else None
    # A part of a wider tensor: the stride between tokens is not their width.
    x = randn(num_tokens, inputs + 8, dtype=half)[:, :inputs]
    actual = ops.linear(held, offset, activation)(x)
    expected = reference.linear(weight, offset, activation)(x)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if num_tokens == 0:
        return
    # Rounded to e4m3, activations are off by 2% at random. In Triton's interpreter every rounding
    # cuts off instead: by up to 0.8% to bf16, by up to 12% to e4m3.
    exact = layout == "dense" or num_tokens <= 8
    allowed = (0.002 if half == torch.float16 else 0.02) if exact else 0.06 * (1 + interpreted)
    assert deviation(actual, expected) < allowed
    worst = (actual.float() - expected.float()).abs().max()
    assert worst < (0.02 if exact else 0.15) * expected.float().abs().max()


def test_a_layer_may_be_filled_after_it_is_made(
    ops: Ops, reference: Ops, device: torch.device, randn: Callable[..., Tensor]
) -> None:
    weight = Fp8Channel.empty(32, 48, torch.bfloat16, device)
    product = ops.linear(weight, None, None)
    weight.fill(randn(32, 48, dtype=torch.bfloat16))
    x = randn(3, 48, dtype=torch.bfloat16)
    assert deviation(product(x), reference.linear(weight, None, None)(x)) < 0.02


@pytest.mark.parametrize(
    "num_tokens", [17, 32, 33, 64, 100, 128] if torch.cuda.is_available() else [33], ids=str
)
@pytest.mark.parametrize(
    ("outputs", "inputs", "bias", "activation", "half"),
    [
        (1048, 2056, False, None, torch.bfloat16),  # few tiles: programs share them
        (2056, 1500, True, None, torch.float16),
        (17168, 528, False, "silu", torch.bfloat16),  # a tile for most multiprocessors
        (17168, 200, True, "gelu", torch.float16),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_that_fill_the_device(
    native_ops: Ops,
    reference: Ops,
    layout: str,
    outputs: int,
    inputs: int,
    bias: bool,
    activation: str | None,
    half: torch.dtype,
    num_tokens: int,
    randn: Callable[..., Tensor],
    poison: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several times: what programs leave each other must be of the same launch."""
    tuning = pytest.importorskip("quire.kernels.matmul.tuning")
    monkeypatch.setattr(tuning, "DEEP", 128)
    monkeypatch.setattr(tuning, "SHALLOW", 128)
    tuning.shared_tile.cache_clear()
    held, weight = layers(native_ops, layout, outputs, inputs, half, randn)
    offset = randn(outputs, dtype=half) if bias else None
    product = native_ops.linear(held, offset, activation)
    for _ in range(3):
        x = randn(num_tokens, inputs + 8, dtype=half)[:, :inputs]
        expected = reference.linear(weight, offset, activation)(x)
        assert deviation(product(x), expected) < (0.008 if layout == "dense" else 0.06)
    tuning.shared_tile.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a kernel of Hopper's for long prompts")
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("num_tokens", [2048, 2200, 4096 + 65])
def test_gate_and_up_of_prompts(
    native_ops: Ops,
    reference: Ops,
    num_tokens: int,
    half: torch.dtype,
    activation: str,
    randn: Callable[..., Tensor],
    poison: None,
) -> None:
    """Columns and depth that no tile divides."""
    held, weight = layers(native_ops, "dense", 2 * 1000, 4104, half, randn)
    x = randn(num_tokens, 4112, dtype=half)[:, :4104]
    expected = reference.linear(weight, None, activation)(x)
    assert deviation(native_ops.linear(held, None, activation)(x), expected) < 0.004


@pytest.mark.parametrize("inputs", [33, 100, 1048])
@pytest.mark.parametrize("outputs", [6, 64, 70])
@pytest.mark.parametrize("layout", PACKED)
def test_panels_hold_the_layout_they_stand_in_for(
    layout: str, outputs: int, inputs: int, poison: None, randn: Callable[..., Tensor]
) -> None:
    dense = randn(outputs, inputs, dtype=torch.bfloat16)
    dense[2, :7] = dense[3] = 0
    dense[1] *= 1e-37  # scales that have no inverse
    dense[4, 0] = -(dense[4, 1:].abs().amax() + dense[4, 0].abs())
    expected = made(LAYOUTS[layout], dense)
    panels = held_in_panels(LAYOUTS[layout], torch.bfloat16).empty(
        outputs, inputs, torch.bfloat16, torch.device("cpu")
    )
    staging = Staging().take(panels)
    staging.copy_(dense)
    panels.fill(staging)
    assert panels.shape == dense.shape
    assert torch.equal(panels.dequantize(), expected.dequantize())
    ids = torch.tensor([5, 1, outputs - 1, 5])
    assert torch.equal(panels.rows(ids), expected.rows(ids))


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    yield native.set_threads
    native.set_threads(torch.get_num_threads())


@pytest.mark.parametrize("layout", PACKED)
@pytest.mark.parametrize("isa", [] if LIBRARY is None else usable_sets(LIBRARY.handle))
def test_a_token_has_one_product_in_any_company(
    isa: str, layout: str, set_threads: Callable[[int], None]
) -> None:
    """What a CPU computes again after a crash is what was told before it."""
    assert LIBRARY is not None
    generator = torch.Generator().manual_seed(5)
    ops = cpp_ops(replace(LIBRARY, isa=isa), "test")
    dense = torch.randn(70, 9000, generator=generator).bfloat16()
    weight = made(ops.held(LAYOUTS[layout], torch.bfloat16), dense)
    product = ops.linear(weight, None, None)
    x = torch.randn(300, 9000, generator=generator).bfloat16()
    set_threads(3)
    together = product(x)
    set_threads(1)
    for count in (1, 2, 3, 5, 6, 7, 16, 40, 97, 130):
        for first in (0, 170):
            alone = product(x[first : first + count])
            assert torch.equal(alone, together[first : first + count]), count
