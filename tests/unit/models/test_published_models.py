"""Configs as published on the Hub (old spelling, trimmed): recipes and parameter counts."""

from typing import Any

import pytest

from quire.models.families import recipe_from_config
from quire.models.recipe import MoeRecipe
from quire.models.show import count_parameters

LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def _config(architecture: str, sizes: str, **more: Any) -> dict[str, Any]:
    """`sizes`: vocabulary, hidden, intermediate, layers, heads, KV heads."""
    names = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    values = dict(zip(names, map(int, sizes.split())))
    return {"architectures": [architecture], **values, **more}


CONFIGS: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-2-7b": (_config("LlamaForCausalLM", "32000 4096 11008 32 32 32"), 6_738_415_616),
    "Llama-3.1-8B": (
        _config(
            "LlamaForCausalLM",
            "128256 4096 14336 32 32 8",
            max_position_embeddings=131072,
            rope_theta=500000.0,
            rope_scaling=LLAMA3_SCALING,
            torch_dtype="bfloat16",
        ),
        8_030_261_248,
    ),
    "Mistral-7B-v0.1": (
        _config("MistralForCausalLM", "32000 4096 14336 32 32 8", sliding_window=4096),
        7_241_732_096,
    ),
    "Mixtral-8x7B-v0.1": (
        _config("MixtralForCausalLM", "32000 4096 14336 32 32 8", sliding_window=None),
        46_702_792_704,
    ),
    "Qwen2.5-0.5B": (
        _config(
            "Qwen2ForCausalLM",
            "151936 896 4864 24 14 2",
            tie_word_embeddings=True,
            use_sliding_window=False,
            sliding_window=32768,
            max_window_layers=24,
        ),
        494_032_768,
    ),
    "Qwen3-8B": (
        _config("Qwen3ForCausalLM", "151936 4096 12288 36 32 8", head_dim=128),
        8_190_735_360,
    ),
    "Qwen3-30B-A3B": (
        _config(
            "Qwen3MoeForCausalLM",
            "151936 2048 6144 48 32 4",
            head_dim=128,
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=768,
            mlp_only_layers=[],
            decoder_sparse_step=1,
        ),
        30_532_122_624,
    ),
    "gemma-2-2b": (
        _config("Gemma2ForCausalLM", "256000 2304 9216 26 8 4", head_dim=256),
        2_614_341_888,
    ),
    "gemma-3-1b": (
        _config("Gemma3ForCausalLM", "262144 1152 6912 26 4 1", head_dim=256, sliding_window=512),
        999_885_952,
    ),
    "Phi-3-mini-4k": (
        _config("Phi3ForCausalLM", "32064 3072 8192 32 32 32", sliding_window=2047),
        3_821_079_552,
    ),
    "opt-125m": (
        {
            "architectures": ["OPTForCausalLM"],
            "vocab_size": 50272,
            "hidden_size": 768,
            "ffn_dim": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": 768,
            "activation_function": "relu",
        },
        125_239_296,
    ),
    "opt-350m": (
        {
            "architectures": ["OPTForCausalLM"],
            "vocab_size": 50272,
            "hidden_size": 1024,
            "ffn_dim": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": 512,
            "do_layer_norm_before": False,
        },
        331_196_416,
    ),
    "gpt2": (
        {
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": 50257,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_positions": 1024,
            "n_ctx": 1024,
            "activation_function": "gelu_new",
        },
        124_439_808,
    ),
    "pythia-70m": (
        _config(
            "GPTNeoXForCausalLM",
            "50304 512 2048 6 8",
            rotary_pct=0.25,
            rotary_emb_base=10000,
            max_position_embeddings=2048,
        ),
        70_426_624,
    ),
    "OLMo-2-1124-7B": (_config("Olmo2ForCausalLM", "100352 4096 11008 32 32 32"), 7_298_617_344),
    "granite-3.1-2b": (
        _config(
            "GraniteForCausalLM",
            "49155 2048 8192 40 32 8",
            tie_word_embeddings=True,
            attention_multiplier=0.015625,
        ),
        2_533_531_648,
    ),
    "SmolLM3-3B": (
        _config("SmolLM3ForCausalLM", "128256 2048 11008 36 16 4", rope_theta=5e6),
        3_075_098_624,
    ),
    "starcoder2-3b": (
        _config("Starcoder2ForCausalLM", "49152 3072 12288 30 24 2", sliding_window=4096),
        3_030_371_328,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameter_count(name: str) -> None:
    config, published = CONFIGS[name]
    assert count_parameters(recipe_from_config(config)).total == published


def test_active_parameters_of_experts() -> None:
    count = count_parameters(recipe_from_config(CONFIGS["Qwen3-30B-A3B"][0]))
    assert count.active == 3_353_032_704  # "A3B"


def test_llama3_scaling_is_within_the_stated_length() -> None:
    recipe = recipe_from_config(CONFIGS["Llama-3.1-8B"][0])
    rope = recipe.layers[0].attention.rope
    assert rope is not None
    assert (rope.kind, rope.theta, rope.factor) == ("llama3", 500000.0, 8.0)
    assert rope.original_max_position == 8192
    assert recipe.max_position == 131072
    assert recipe.dtype == "bfloat16"


def test_pythia_words_for_rope() -> None:
    recipe = recipe_from_config(CONFIGS["pythia-70m"][0])
    rope = recipe.layers[0].attention.rope
    assert rope is not None
    assert (rope.rotary_dim, rope.theta) == (16, 10000.0)
    assert recipe.layers[0].parallel


def test_gemma3_windows_and_ropes_of_an_old_config() -> None:
    recipe = recipe_from_config(
        {**CONFIGS["gemma-3-1b"][0], "rope_theta": 1e6, "rope_local_base_freq": 1e4}
    )
    windows = [layer.attention.window for layer in recipe.layers]
    assert windows[:7] == [512, 512, 512, 512, 512, None, 512]
    thetas = [layer.attention.rope.theta for layer in recipe.layers if layer.attention.rope]
    assert thetas[:6] == [1e4] * 5 + [1e6]
    assert [group.window for group in recipe.kv_groups()] == [None, 512]


def test_gemma3_inside_a_multimodal_config_leaves_out_its_sizes() -> None:
    text = {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }
    recipe = recipe_from_config(text)
    assert recipe.architecture == "Gemma3ForCausalLM"
    assert recipe.vocab_size == 262208
    assert recipe.max_position == 131072
    full = recipe.layers[5].attention.rope
    assert full is not None
    assert (full.kind, full.factor) == ("linear", 8.0)
    find, ignores = recipe.weights.find, recipe.weights.ignores
    assert find("language_model.model.layers.3.mlp.up_proj.weight") is not None
    assert find("model.language_model.layers.3.mlp.up_proj.weight") is not None
    assert ignores("vision_tower.vision_model.embeddings.patch_embedding.weight")
    assert ignores("model.multi_modal_projector.mm_input_projection_weight")


def test_qwen_yarn_makes_the_model_longer() -> None:
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    recipe = recipe_from_config(
        {**CONFIGS["Qwen2.5-0.5B"][0], "max_position_embeddings": 32768, "rope_scaling": scaling}
    )
    assert recipe.max_position == 131072


@pytest.mark.parametrize("name", ["Mixtral-8x7B-v0.1", "Qwen3-30B-A3B"])
def test_experts_are_accepted_a_tensor_each_or_stacked(name: str) -> None:
    recipe = recipe_from_config(CONFIGS[name][0])
    mlp = recipe.layers[0].mlp
    assert isinstance(mlp, MoeRecipe)
    part, gate, down = (
        ("block_sparse_moe", "w1", "w2") if name[0] == "M" else ("mlp", "gate_proj", "down_proj")
    )
    places = recipe.weights.places
    (place,) = places[f"model.layers.7.{part}.experts.3.{gate}.weight"]
    assert (place.param, place.rows, place.expert) == ("layers.7.mlp.gate_up", (0, mlp.size), 3)
    (place,) = places[f"model.layers.7.{part}.experts.3.{down}.weight"]
    assert (place.param, place.rows, place.expert) == ("layers.7.mlp.down", None, 3)
    (place,) = places["model.layers.7.mlp.experts.gate_up_proj"]
    assert (place.param, place.rows, place.expert) == ("layers.7.mlp.gate_up", None, None)
