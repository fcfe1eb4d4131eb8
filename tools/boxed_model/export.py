"""Writes the trained weights as a standard Hugging Face checkpoint in bf16."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tools.boxed_model.model import Decoder, Shape


def config_of(shape: Shape, eos: list[int], pad: int) -> dict[str, object]:
    """config.json for LlamaForCausalLM. eos: <|im_end|> and <|endoftext|>."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": eos,
        "pad_token_id": pad,
    }


def export(model: Decoder, folder: Path, eos: list[int], pad: int) -> None:
    """config.json, generation_config.json, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"model.{name}": p.detach().to("cpu", torch.bfloat16).contiguous()
        for name, p in model.named_parameters()
    }
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = json.dumps(config_of(model.shape, eos, pad), indent=2)
    (folder / "config.json").write_text(config + "\n")
    # Nearly greedy: a toy's second choice is usually wrong, but jokes and stories may differ. A
    # temperature is written out because engines take a missing one for 1.
    generation = {
        "eos_token_id": eos,
        "pad_token_id": pad,
        "do_sample": True,
        "temperature": 0.2,
        "top_p": 0.9,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
