"""Model families: architecture class name -> a pure function from config.json to a recipe.

Each family is a file with `recipe(Reader) -> Recipe`, its defaults and what is its own, imported
when it is asked for. No file here imports torch.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from quire.core.errors import UnsupportedModelError, nearest
from quire.models.families.reader import Reader
from quire.models.recipe import Recipe

# Architecture class -> (family's file, model_type of configs that name no architecture).
FAMILIES: dict[str, tuple[str, str]] = {
    "LlamaForCausalLM": ("llama", "llama"),
    "MistralForCausalLM": ("mistral", "mistral"),
    "MixtralForCausalLM": ("mixtral", "mixtral"),
    "Qwen2ForCausalLM": ("qwen2", "qwen2"),
    "Qwen3ForCausalLM": ("qwen3", "qwen3"),
    "Qwen3MoeForCausalLM": ("qwen3_moe", "qwen3_moe"),
    "Gemma2ForCausalLM": ("gemma2", "gemma2"),
    "Gemma3ForCausalLM": ("gemma3_text", "gemma3_text"),
    "Phi3ForCausalLM": ("phi3", "phi3"),
    "OPTForCausalLM": ("opt", "opt"),
    "GPT2LMHeadModel": ("gpt2", "gpt2"),
    "GPTNeoXForCausalLM": ("gpt_neox", "gpt_neox"),
    "Olmo2ForCausalLM": ("olmo2", "olmo2"),
    "GraniteForCausalLM": ("granite", "granite"),
    "SmolLM3ForCausalLM": ("smollm3", "smollm3"),
    "Starcoder2ForCausalLM": ("starcoder2", "starcoder2"),
}


def architecture_of(config: Mapping[str, Any]) -> str:
    """The architecture a config.json names, by class or else by model type.

    Raises:
        UnsupportedModelError: it names neither.
    """
    architectures = config.get("architectures")
    if isinstance(architectures, list | tuple) and architectures:
        return str(architectures[0])
    model_type = config.get("model_type")
    if not model_type:
        raise UnsupportedModelError(
            "config.json has neither 'architectures' nor 'model_type': "
            "is this the folder of a transformers model?"
        )
    for architecture, (_, family_type) in FAMILIES.items():
        if family_type == model_type:
            return architecture
    return str(model_type)


def recipe_from_config(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a parsed config.json.

    Raises:
        UnsupportedModelError: there is no recipe for the architecture (the message names the
            nearest that has one), a required field is missing, or a value is not supported.
    """
    architecture = architecture_of(config)
    if architecture not in FAMILIES:
        raise UnsupportedModelError(
            f"no recipe for architecture '{architecture}'{nearest(architecture, FAMILIES)}; "
            f"recipes exist for {', '.join(FAMILIES)}; a decoder-only model that transformers "
            "can build may still run with model_impl='transformers'"
        )
    if config.get("quantization_config"):
        raise quantized(config)
    family = importlib.import_module(f"quire.models.families.{FAMILIES[architecture][0]}")
    made: Recipe = family.recipe(Reader(config, architecture))
    return made


def quantized(config: Mapping[str, Any]) -> UnsupportedModelError:
    """The refusal of a config with a `quantization_config`."""
    details = config["quantization_config"]
    method = details.get("quant_method", "unknown") if isinstance(details, Mapping) else details
    return UnsupportedModelError(
        f"quantized checkpoints are not supported yet (quantization_config: {method}); "
        "use the unquantized checkpoint of this model"
    )
