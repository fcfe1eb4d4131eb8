"""What a config.json can get wrong, and the one line each mistake gives."""

from typing import Any

import pytest

from quire.core.errors import UnsupportedModelError
from quire.models.families import FAMILIES, architecture_of, recipe_from_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
QWEN2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"]}


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        recipe_from_config(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "field",
    ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
)
def test_a_missing_required_field_is_named(field: str) -> None:
    message = refused({k: v for k, v in LLAMA.items() if k != field})
    assert f"required field '{field}' is missing" in message
    assert "LlamaForCausalLM" in message


@pytest.mark.parametrize("architecture", FAMILIES)
def test_an_empty_config_of_any_family_is_one_clear_error(architecture: str) -> None:
    message = refused({"architectures": [architecture]})
    assert architecture in message
    assert "required field" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": "64"}, "'hidden_size' must be an integer of at least 1, got '64'"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' must be an integer of at least 1, got 0"),
        ({"rms_norm_eps": "tiny"}, "'rms_norm_eps' must be a number"),
        ({"attention_bias": 1}, "'attention_bias' must be true or false, got 1"),
        ({"hidden_act": "mish"}, "'hidden_act' is 'mish'; supported: silu"),
        ({"num_attention_heads": 5}, "not a multiple of 'num_attention_heads' (5)"),
        ({"num_key_value_heads": 3}, "not a multiple of 'num_key_value_heads' (3)"),
        ({"rope_scaling": {"type": "spiral"}}, "rope type is 'spiral'; supported: default"),
        ({"rope_scaling": {"type": "linear"}}, "required field 'factor' is missing"),
        ({"rope_scaling": "linear"}, "'rope_scaling' must be an object"),
        ({"partial_rotary_factor": 0.5}, "'partial_rotary_factor' is 0.5; supported: 1.0"),
        ({"rms_norm_eps": float("nan")}, "'rms_norm_eps' must be a number, got nan"),
        ({"rope_theta": 0}, "'rope_theta' must be a number above 0, got 0"),
        ({"hidden_size": 36}, "it would rotate 9 of a head's 9 dimensions"),
        ({"torch_dtype": "int8"}, "'dtype' is 'int8'; supported: float32"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config: awq"),
    ],
)
def test_an_unusable_value_is_named_with_what_is_expected(
    change: dict[str, Any], words: str
) -> None:
    assert words in refused({**LLAMA, **change})


@pytest.mark.parametrize(
    ("architecture", "change", "words"),
    [
        ("GraniteForCausalLM", {"logits_scaling": 0}, "'logits_scaling' must be a number above 0"),
        ("Gemma2ForCausalLM", {"query_pre_attn_scalar": 0}, "must be a number above 0, got 0"),
        (
            "MixtralForCausalLM",
            {"num_local_experts": 4, "num_experts_per_tok": 5, "num_key_value_heads": 4},
            "'num_experts_per_tok' (5) is more than 'num_local_experts' (4)",
        ),
        ("GPT2LMHeadModel", {"n_embd": "wide"}, "'n_embd' must be an integer of at least 1"),
        (
            "GPT2LMHeadModel",
            {"n_embd": 66, "n_head": 4},
            "'n_embd' (66) is not a multiple of 'n_head'",
        ),
        ("Gemma3ForCausalLM", {"rope_parameters": []}, "'rope_parameters' must be an object"),
        (
            "Gemma3ForCausalLM",
            {"rope_parameters": {"full_attention": "linear"}},
            "'full_attention' must be an object, got 'linear'",
        ),
        ("LlamaForCausalLM", {"quantization_config": "gguf"}, "quantization_config: gguf"),
    ],
)
def test_families_refuse_what_they_cannot_compute(
    architecture: str, change: dict[str, Any], words: str
) -> None:
    assert words in refused({**LLAMA, "architectures": [architecture], **change})


def test_per_layer_lists_must_have_one_value_a_layer() -> None:
    config = {**QWEN2, "use_sliding_window": True, "layer_types": ["full_attention"]}
    assert "'layer_types' must hold 2 values (one a layer), got 1" in refused(config)
    config["layer_types"] = ["full_attention", "chunked_attention"]
    assert "'layer_types' holds 'chunked_attention'; supported: full_attention" in refused(config)


def test_an_unknown_architecture_names_the_nearest() -> None:
    message = refused({"architectures": ["Qwen2MoeForCausalLM"]})
    assert "no recipe for architecture 'Qwen2MoeForCausalLM'" in message
    assert "did you mean 'Qwen" in message
    assert "model_impl='transformers'" in message


def test_a_config_that_names_nothing() -> None:
    assert "neither 'architectures' nor 'model_type'" in refused({"hidden_size": 3})


def test_model_type_stands_in_for_a_missing_architecture() -> None:
    assert architecture_of({"model_type": "gemma3_text"}) == "Gemma3ForCausalLM"
    assert architecture_of({"model_type": "bloom"}) == "bloom"


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("Gemma2ForCausalLM", {"use_bidirectional_attention": True}),
        ("Gemma3ForCausalLM", {"attn_logit_softcapping": 50.0}),
    ],
)
def test_fields_that_change_the_maths_are_refused(
    architecture: str, change: dict[str, Any]
) -> None:
    (field,) = change
    message = refused({**LLAMA, "architectures": [architecture], **change})
    assert f"'{field}' is" in message


def test_unknown_keys_and_nulls_do_not_matter() -> None:
    plain = recipe_from_config(LLAMA)
    extended = {**LLAMA, "pretraining_tp": 1, "head_dim": None, "rope_scaling": None}
    assert recipe_from_config(extended) == plain
