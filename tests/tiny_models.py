"""Tiny random models of every family, made by transformers: what the parity tests compare with.

Sizes are small and uneven on purpose; weights are large enough that a wrong bias, norm or
rotation moves the logits.
"""

from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

# For families whose head is E / H wide.
NARROW: dict[str, Any] = {
    **{k: v for k, v in SIZES.items() if k != "head_dim"},
    "hidden_size": 72,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
}

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.2, 1.3, 1.7, 2.0, 2.3],
    "long_factor": [1.0, 1.9, 3.1, 4.4, 5.0, 8.0],
    "partial_rotary_factor": 0.75,
}


def tiny_models() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> (configuration class in transformers, its arguments)."""
    phi3 = {k: v for k, v in SIZES.items() if k != "head_dim"}
    phi3.update(hidden_size=96, attention_dropout=0.0)
    return {
        "llama": ("LlamaConfig", SIZES),
        "llama_biases": ("LlamaConfig", {**NARROW, "attention_bias": True, "mlp_bias": True}),
        "llama_tied": ("LlamaConfig", {**SIZES, "tie_word_embeddings": True}),
        "llama_linear": ("LlamaConfig", {**SIZES, "rope_parameters": _rope("linear", factor=2.5)}),
        "llama_dynamic": (
            "LlamaConfig",
            {**SIZES, "rope_parameters": _rope("dynamic", factor=2.0)},
        ),
        "llama_yarn": ("LlamaConfig", {**SIZES, "rope_parameters": YARN}),
        "llama_llama3": ("LlamaConfig", {**SIZES, "rope_parameters": LLAMA3}),
        "mistral": ("MistralConfig", {**SIZES, "sliding_window": 11}),
        "mistral_full": ("MistralConfig", {**SIZES, "sliding_window": None}),
        "mixtral": (
            "MixtralConfig",
            {**SIZES, "num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None},
        ),
        "qwen2": ("Qwen2Config", {**NARROW, "tie_word_embeddings": True}),
        "qwen2_window": (
            "Qwen2Config",
            {
                **NARROW,
                "use_sliding_window": True,
                "sliding_window": 9,
                "max_window_layers": 1,
            },
        ),
        "qwen3": ("Qwen3Config", SIZES),
        "qwen3_moe": (
            "Qwen3MoeConfig",
            {
                **SIZES,
                "num_experts": 6,
                "num_experts_per_tok": 3,
                "moe_intermediate_size": 24,
                "norm_topk_prob": True,
                "mlp_only_layers": [1],
            },
        ),
        "qwen3_moe_sparse_step": (
            "Qwen3MoeConfig",
            {
                **SIZES,
                "num_hidden_layers": 4,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 40,
                "norm_topk_prob": False,
                "decoder_sparse_step": 2,
            },
        ),
        "gemma2": (
            "Gemma2Config",
            {
                **SIZES,
                "sliding_window": 13,
                "query_pre_attn_scalar": 24,
                "attn_logit_softcapping": 5.0,
                "final_logit_softcapping": 8.0,
                "num_hidden_layers": 4,
            },
        ),
        "gemma3": (
            "Gemma3TextConfig",
            {
                **SIZES,
                "sliding_window": 10,
                "query_pre_attn_scalar": 20,
                "num_hidden_layers": 4,
                "layer_types": [
                    "sliding_attention",
                    "sliding_attention",
                    "full_attention",
                    "sliding_attention",
                ],
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4},
                },
            },
        ),
        "phi3": ("Phi3Config", {**phi3, "sliding_window": 12}),
        "phi3_longrope_short": (
            "Phi3Config",
            {
                **phi3,
                "rope_parameters": dict(LONGROPE),
                "original_max_position_embeddings": 64,
            },
        ),
        "phi3_longrope_long": (
            "Phi3Config",
            {
                **phi3,
                "tie_word_embeddings": True,
                "rope_parameters": dict(LONGROPE),
                "original_max_position_embeddings": 8,
            },
        ),
        "opt": ("OPTConfig", _opt(word_embed_proj_dim=72)),
        "opt_350m": ("OPTConfig", _opt(word_embed_proj_dim=40, do_layer_norm_before=False)),
        "galactica": (
            "OPTConfig",
            _opt(
                word_embed_proj_dim=72,
                enable_bias=False,
                layer_norm_elementwise_affine=False,
                activation_function="gelu",
            ),
        ),
        "gpt2": ("GPT2Config", _gpt2()),
        "gpt2_inverse_layer": (
            "GPT2Config",
            _gpt2(scale_attn_by_inverse_layer_idx=True, n_inner=100, tie_word_embeddings=False),
        ),
        "gpt_neox": ("GPTNeoXConfig", _gpt_neox(use_parallel_residual=True)),
        "gpt_neox_sequential": (
            "GPTNeoXConfig",
            _gpt_neox(use_parallel_residual=False, attention_bias=False),
        ),
        "olmo2": ("Olmo2Config", NARROW),
        "granite": (
            "GraniteConfig",
            {
                **NARROW,
                "embedding_multiplier": 3.0,
                "residual_multiplier": 0.4,
                "attention_multiplier": 0.3,
                "logits_scaling": 2.5,
                "tie_word_embeddings": True,
            },
        ),
        "smollm3": (
            "SmolLM3Config",
            {**NARROW, "num_hidden_layers": 4, "no_rope_layers": [1, 0, 1, 0]},
        ),
        "smollm3_window": (
            "SmolLM3Config",
            {
                **NARROW,
                "no_rope_layer_interval": 2,
                "use_sliding_window": True,
                "sliding_window": 8,
            },
        ),
        "starcoder2": ("Starcoder2Config", {**NARROW, "sliding_window": 14}),
        "starcoder2_no_bias": ("Starcoder2Config", {**NARROW, "use_bias": False}),
    }


# The rope scalings that go by the sequence's length in transformers go by the model's longest
# one here. The two agree for prompts of at least so many tokens,
SHORTEST_PROMPT = {"phi3_longrope_long": 9}
# and when the model is built for at most so many (`max_model_len`).
LONGEST_SEQUENCE = {"phi3_longrope_short": 64, "llama_dynamic": 128}


def make_tiny_model(name: str, seed: int = 0) -> Any:
    """The transformers model in fp32 with random weights, norms and biases included."""
    import torch
    import transformers

    config_class, arguments = tiny_models()[name]
    config = getattr(transformers, config_class)(**arguments)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    )
    randomize(model, seed)
    return model.eval()


def randomize(model: Any, seed: int) -> None:
    """Give every parameter random values of the size a trained model has."""
    import torch

    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=noise)
            if parameter.dim() == 1:  # norms start at one (Gemma's at zero), biases at zero
                parameter.add_(0.3 * values)
            elif "embed" in name or "wte" in name or "wpe" in name:
                parameter.copy_(values)
            else:
                parameter.copy_(values * 1.5 * parameter.shape[-1] ** -0.5)


def save_tiny_model(name: str, folder: Path, seed: int = 0) -> Any:
    """Make it, save it to `folder` as a checkpoint, and return it."""
    model = make_tiny_model(name, seed)
    model.save_pretrained(folder)
    return model


def _rope(kind: str, **fields: float) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 1000.0, **fields}


def _opt(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": 131,
        "hidden_size": 72,
        "ffn_dim": 100,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "max_position_embeddings": 128,
        **more,
    }


def _gpt2(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": 131,
        "n_embd": 72,
        "n_layer": 3,
        "n_head": 3,
        "n_positions": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def _gpt_neox(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": 131,
        "hidden_size": 72,
        "intermediate_size": 100,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "max_position_embeddings": 128,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1000.0,
            "partial_rotary_factor": 0.25,
        },
        **more,
    }
