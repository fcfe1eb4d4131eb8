"""Weights quantized while they load: each as soon as it is whole, everything else as it was."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from paged_steps import PagedModel
from quire.core.config import ModelConfig, engine_config
from quire.core.errors import ConfigError, UnsupportedModelError
from quire.kernels.select import torch_ops
from quire.layers.linear import Linear
from quire.models.decoder import Decoder
from quire.models.families import recipe_from_config
from quire.quant.layouts import AT_LOAD
from quire.quant.layouts.int4_group import Int4Group
from quire.quant.layouts.layout import Dense
from quire.quant.layouts.per_channel import Fp8Channel, Int8Channel
from quire.weights.build import model_recipe
from quire.weights.dummy import fill_dummy
from quire.weights.hf_config import read_hf_config
from quire.weights.loader import destination, load_weights
from quire.weights.targets import Staging, Target
from tiny_models import save_tiny_model

OPS = torch_ops("test")
CPU = torch.device("cpu")
LARGE = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}


def decoder(
    config: dict[str, Any], dtype: torch.dtype, quantized: bool, device=CPU, quantization="fp8"
) -> Decoder:
    layouts = AT_LOAD[quantization] if quantized else ()
    return Decoder(recipe_from_config(config), OPS, dtype, device, 64, *layouts)


def test_a_weight_is_rounded_to_the_nearest() -> None:
    dense = torch.randn(1500, 40) * torch.logspace(-6, 6, 1500).unsqueeze(1)
    dense[7] = 0.0
    held = Fp8Channel.empty(1500, 40, torch.float32, CPU)
    held.fill(dense)
    error = (held.dequantize() - dense).abs()
    largest = dense.abs().amax(1, keepdim=True)
    # Half a step of 3 mantissa bits; below 2**-6 of 448 the steps are 2**-9.
    assert (error <= (dense.abs() / 16).clamp(min=largest / 448 * 2**-10) * 1.001).all()
    assert torch.equal(held.dequantize()[7], dense[7])
    assert (held.weight.float().abs().amax(1)[8:] == 448).all()


def checkpoint(folder: Path, recipe: Any, config: dict[str, Any], shards: int) -> dict[str, Tensor]:
    """Random tensors for every name, in `shards` files that cut layers apart."""
    dense = decoder(config, torch.bfloat16, quantized=False)
    fill_dummy(dense)
    parameters = dict(dense.named_parameters())
    tensors = {}
    for name, places in recipe.weights.places.items():
        if places and name not in recipe.weights.optional:
            tensors[name] = destination(parameters[places[0].param], places[0]).clone()
    names = sorted(tensors)
    size = -(-len(names) // shards)
    for shard in range(shards):
        part = {name: tensors[name] for name in names[shard * size : (shard + 1) * size]}
        save_file(part, folder / f"model-{shard}.safetensors")
    return tensors


@pytest.mark.parametrize("inputs", [64, 100])
def test_int4_finds_a_better_scale_than_the_largest_weight_gives(inputs: int) -> None:
    dense = torch.randn(300, inputs, generator=torch.Generator().manual_seed(2))
    dense[7] = 0.0
    dense[8, 0] = -8.0
    held = Int4Group.empty(300, inputs, torch.float32, CPU)
    held.fill(dense)
    made = held.dequantize()
    assert made.shape == dense.shape
    assert torch.equal(made[7], dense[7])
    assert torch.equal(held.rows(torch.tensor([8, 3])), made[[8, 3]])
    error = (made - dense)[9:, :64].square().sum(1)
    scale = dense[9:, :64].abs().amax(1, keepdim=True) / 8
    plain = ((dense[9:, :64] / scale).round().clamp(-8, 7) * scale - dense[9:, :64]).square().sum(1)
    assert error.mean() < 0.85 * plain.mean()


def test_int8_is_rounded_to_the_nearest() -> None:
    dense = torch.randn(1500, 40) * torch.logspace(-6, 6, 1500).unsqueeze(1)
    dense[7] = 0.0
    held = Int8Channel.empty(1500, 40, torch.float32, CPU)
    held.fill(dense)
    step = dense.abs().amax(1, keepdim=True) / 127
    assert ((held.dequantize() - dense).abs() <= step * 0.5001).all()
    assert torch.equal(held.rows(torch.tensor([7, 9])), held.dequantize()[[7, 9]])


@pytest.mark.parametrize("shards", [1, 3])
def test_loading_quantizes_each_weight_once_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    recipe = recipe_from_config(LARGE)
    checkpoint(tmp_path, recipe, LARGE, shards)
    alive: list[weakref.ref[Staging]] = []
    most = 0
    take = Staging.take

    def counted(self: Staging, target: Target) -> Tensor:
        nonlocal most
        made = take(self, target)
        alive.append(weakref.ref(self))
        most = max(most, sum(memory.nbytes for memory in [*self._free, *self._lent.values()]))
        return made

    monkeypatch.setattr(Staging, "take", counted)
    quantized = decoder(LARGE, torch.bfloat16, quantized=True)
    load_weights(quantized, recipe, tmp_path, progress=False)
    dense = decoder(LARGE, torch.bfloat16, quantized=False)
    load_weights(dense, recipe, tmp_path, progress=False)
    for name, module in quantized.named_modules():
        if isinstance(module, Linear):
            expected = Fp8Channel.empty(*module.layout.shape, torch.bfloat16, CPU)
            expected.fill(dense.get_submodule(name).weight)
            assert torch.equal(module.weight.view(torch.uint8), expected.weight.view(torch.uint8))
            assert torch.equal(module.scale, expected.scale)
    assert torch.equal(quantized.embedding.weight, dense.embedding.weight)
    assert torch.equal(quantized.head.weight, dense.head.weight)
    # About a layer of dense weights beside the model, wherever the shards cut it: what was a large
    # one's may be a small one's now.
    layer = 2 * (256 * 512 + 256 * 256 + 3 * 256 * 640)
    assert 0 < most <= 1.25 * layer
    assert not [ref for ref in alive if ref() is not None]


def test_bytes_are_those_of_the_layout() -> None:
    meta = torch.device("meta")
    made = decoder(LARGE, torch.bfloat16, quantized=True, device=meta)
    held = sum(p.nbytes for p in made.parameters())
    expected = 0
    for name, p in decoder(LARGE, torch.bfloat16, False, meta).named_parameters():
        inside = name.startswith("layers.") and "norm" not in name
        expected += p.numel() + 4 * p.shape[0] if inside else 2 * p.numel()
    assert held == expected


@pytest.mark.parametrize(("quantization", "near"), [("fp8", 0.25), ("int8", 0.08), ("int4", 0.6)])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "phi3"])
def test_logits_stay_near(tmp_path: Path, family: str, quantization: str, near: float) -> None:
    """In parts of the logits' size: in tiny models errors do not average out."""
    folder = tmp_path / family
    save_tiny_model(family, folder)
    config = read_hf_config(folder).config
    recipe = recipe_from_config(config)
    logits = []
    for quantized in (False, True):
        made = decoder(config, torch.float32, quantized, quantization=quantization)
        load_weights(made, recipe, folder, progress=False)
        logits.append(PagedModel(made).step([(0, range(3, 19))])[0])
    exact, rounded = logits
    assert (rounded - exact).norm() < near * exact.norm()
    assert not torch.equal(rounded, exact)


@pytest.mark.parametrize(
    ("architecture", "impl", "words"),
    [
        ("MixtralForCausalLM", "auto", "routed experts"),
        ("LlamaForCausalLM", "transformers", "runs"),
    ],
)
def test_what_cannot_be_quantized_is_refused(
    tmp_path: Path, architecture: str, impl: Any, words: str
) -> None:
    config = ModelConfig(str(tmp_path), quantization="fp8", model_impl=impl)
    hf_config = {**LARGE, "architectures": [architecture], "num_local_experts": 4}
    with pytest.raises(UnsupportedModelError, match=f"quantization='fp8'.*{words}.*leave it out"):
        model_recipe(config, tmp_path, hf_config)


def test_an_unknown_quantization_is_refused() -> None:
    with pytest.raises(ConfigError, match="quantization must be one of fp8, int8, int4, got 'awq'"):
        engine_config(quantization="awq")


def test_memory_that_is_given_back_is_used_again() -> None:
    def target(outputs: int) -> Int8Channel:
        return Int8Channel.empty(outputs, 16, torch.bfloat16, torch.device("cpu"))

    staging = Staging()
    large, small = staging.take(target(64)), staging.take(target(32))
    assert large.shape == (64, 16)
    assert large.dtype == torch.bfloat16
    addresses = large.data_ptr(), small.data_ptr()
    staging.give_back(large)
    staging.give_back(small)
    assert staging.take(target(24)).data_ptr() == addresses[1], "the smallest that suffices"
    assert staging.take(target(24)).data_ptr() == addresses[0]
    assert staging.take(target(24)).data_ptr() not in addresses, "both are in use"


def test_own_memory_is_not_lent() -> None:
    own = Dense(torch.empty(4, 4))
    staging = Staging()
    staging.give_back(staging.take(own))
    other = staging.take(Int8Channel.empty(4, 4, torch.float32, torch.device("cpu")))
    assert other.data_ptr() != own.weight.data_ptr()
