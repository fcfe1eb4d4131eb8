"""The two spellings of config.json give one recipe, and the map finds every saved name."""

import json
from pathlib import Path
from typing import Any

import pytest

from quire.models.families import recipe_from_config
from quire.models.show import show
from tiny_models import make_tiny_model, tiny_models

NAMES = list(tiny_models())


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """name -> config.json as transformers writes it."""
    import transformers

    made = {}
    for name, (config_class, arguments) in tiny_models().items():
        folder: Path = tmp_path_factory.mktemp(name)
        config = getattr(transformers, config_class)(**arguments)
        config.save_pretrained(folder)
        made[name] = json.loads((folder / "config.json").read_text())
    return made


def old_spelling(config: dict[str, Any]) -> dict[str, Any]:
    """The same config as transformers 4 wrote it."""
    old = {k: v for k, v in config.items() if k not in ("rope_parameters", "dtype")}
    rope = dict(config.get("rope_parameters") or {})
    old["torch_dtype"] = config.get("dtype", "float32")
    if "full_attention" in rope:
        full = dict(rope["full_attention"])
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = full
    if not rope:
        return old
    theta = rope.pop("rope_theta")
    share = rope.pop("partial_rotary_factor", None)
    if config["model_type"] == "gpt_neox":
        old["rotary_emb_base"], old["rotary_pct"] = theta, share
        return old
    old["rope_theta"] = theta
    if share is not None:
        old["partial_rotary_factor"] = share
    if rope["rope_type"] != "default":
        rope["type"] = rope.pop("rope_type")
        old["rope_scaling"] = rope
    return old


@pytest.mark.parametrize("name", NAMES)
def test_both_spellings_of_a_config_give_one_recipe(configs, name: str) -> None:
    new = recipe_from_config(configs[name])
    assert recipe_from_config(old_spelling(configs[name])) == new


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "opt", "opt_350m", "gemma3"])
def test_names_with_and_without_the_base_prefix(configs, name: str) -> None:
    weights = recipe_from_config(configs[name]).weights
    reference = make_tiny_model(name)
    prefix = reference.base_model_prefix + "."
    for key in reference.state_dict():
        assert weights.find(key) == key
        if key.startswith(prefix):
            assert weights.find(key.removeprefix(prefix)) == key
        else:
            assert weights.find("lm_head.weight") is not None


@pytest.mark.parametrize(
    ("name", "buffer"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt2", "h.0.attn.bias"),
        ("gpt2", "transformer.h.11.attn.masked_bias"),
        ("gpt_neox", "gpt_neox.layers.2.attention.bias"),
        ("gpt_neox", "gpt_neox.layers.2.attention.masked_bias"),
        ("gpt_neox", "gpt_neox.layers.2.attention.rotary_emb.inv_freq"),
    ],
)
def test_buffers_of_old_checkpoints_are_ignored(configs, name: str, buffer: str) -> None:
    weights = recipe_from_config(configs[name]).weights
    assert weights.find(buffer) is None
    assert weights.ignores(buffer)


def test_names_of_another_model_are_neither_found_nor_ignored(configs) -> None:
    weights = recipe_from_config(configs["llama"]).weights
    for name in ("model.layers.3.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias"):
        assert weights.find(name) is None
        assert not weights.ignores(name)


def test_old_name_of_the_neox_head(configs) -> None:
    weights = recipe_from_config(configs["gpt_neox"]).weights
    assert weights.find("embed_out.weight") == "embed_out.weight"


@pytest.mark.parametrize("name", NAMES)
def test_every_model_can_be_shown(configs, name: str) -> None:
    recipe = recipe_from_config(configs[name])
    text = show(recipe)
    assert recipe.architecture in text
    total = sum(parameter.numel() for parameter in make_tiny_model(name).parameters())
    assert f"{total:,}" in text


def test_show_reads_as_the_model(configs) -> None:
    text = show(recipe_from_config(configs["gemma3"]))
    assert "x = x + norm(attention(norm(x)))\n" in text
    assert "layers 0-1, 3\n" in text
    assert "attention_after_norm: kind rms, eps 0.001, weight_offset 1\n" in text
    assert "num_heads 6, num_kv_heads 2, head_dim 16, scale 0.223607, window 10" in text
    assert "rope (kind linear, theta 10000, rotary_dim 16, max_position" in text
    assert "head: tied\n" in text
    assert "full attention: 1 layer," in text
    text = show(recipe_from_config(configs["qwen3_moe"]))
    assert "experts: num_experts 6, top_k 3, size 24, activation silu" in text
    assert "active per token" in text
    text = show(recipe_from_config(configs["gpt_neox"]))
    assert "x = x + attention(norm(x)) + mlp(norm(x))" in text
