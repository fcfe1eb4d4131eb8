"""Rope tables against transformers' own frequencies, for every kind and length."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from quire.layers.rotary import frequencies_and_scaling, rotary_table
from quire.models.families import recipe_from_config
from quire.models.recipe import RopeRecipe

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}
KINDS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64},
    "yarn_mscale": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 64,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        "beta_fast": 16,
        "beta_slow": 2,
        "truncate": False,
    },
    "yarn_attention_factor": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        "attention_factor": 0.9,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 100,
    },
}


def rope_of(config: Any) -> RopeRecipe:
    rope = recipe_from_config(config.to_dict()).layers[0].attention.rope
    assert rope is not None
    return rope


@pytest.mark.parametrize("theta", [100.0, 500000.0])
@pytest.mark.parametrize("name", KINDS)
def test_frequencies(name: str, theta: float) -> None:
    config = LlamaConfig(
        **SIZES,
        architectures=["LlamaForCausalLM"],
        rope_parameters={**KINDS[name], "rope_theta": theta},
    )
    theirs, theirs_scaling = ROPE_INIT_FUNCTIONS[KINDS[name]["rope_type"]](config)
    ours, scaling = frequencies_and_scaling(rope_of(config), 512)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    assert scaling == pytest.approx(theirs_scaling, rel=1e-12)


@pytest.mark.parametrize("max_len", [100, 512, 513, 2048])
def test_dynamic_is_scaled_for_the_longest_sequence(max_len: int) -> None:
    config = LlamaConfig(
        **SIZES,
        architectures=["LlamaForCausalLM"],
        rope_parameters={**KINDS["dynamic"], "rope_theta": 1e4},
    )
    theirs, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, seq_len=max_len)
    ours, _ = frequencies_and_scaling(rope_of(config), max_len)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("extra", [{}, {"attention_factor": 1.25}])
@pytest.mark.parametrize("max_len", [64, 65])
def test_longrope_takes_the_factors_of_the_longest_sequence(max_len: int, extra: dict) -> None:
    config = Phi3Config(
        **SIZES,
        pad_token_id=0,
        architectures=["Phi3ForCausalLM"],
        original_max_position_embeddings=64,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0 + 0.1 * i for i in range(16)],
            "long_factor": [1.0 + 0.9 * i for i in range(16)],
            **extra,
        },
    )
    theirs, theirs_scaling = ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=max_len)
    ours, scaling = frequencies_and_scaling(rope_of(config), max_len)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    assert scaling == pytest.approx(theirs_scaling, rel=1e-12)


def test_the_table_holds_cos_then_sin_of_every_position() -> None:
    rope = RopeRecipe("default", theta=100.0, rotary_dim=6, max_position=32)
    table = rotary_table(rope, 9)
    assert table.shape == (9, 6)
    assert table.dtype == torch.float32
    angles = 7 * torch.tensor([100.0 ** (-i / 6) for i in (0, 2, 4)])
    torch.testing.assert_close(table[7], torch.cat((angles.cos(), angles.sin())))


def test_an_odd_rotary_share_is_rounded_up_as_in_transformers() -> None:
    rope = RopeRecipe("default", theta=100.0, rotary_dim=5, max_position=32)
    frequencies, _ = frequencies_and_scaling(rope, 8)
    assert frequencies.tolist() == pytest.approx([1.0, 100.0 ** (-2 / 5), 100.0 ** (-4 / 5)])
