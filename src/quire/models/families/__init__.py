"""Model families: architecture class name -> a pure function from config.json to a recipe.

Each family is such a function, with its defaults and what is its own, in a file with its kin. No
file here imports torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

from quire.core.errors import UnsupportedModelError, nearest
from quire.models.families import gemma, gpt, llama, qwen
from quire.models.families.reader import Reader
from quire.models.recipe import Recipe

# Architecture class -> (family, model_type of configs that name no architecture).
FAMILIES: dict[str, tuple[Callable[[Reader], Recipe], str]] = {
    "LlamaForCausalLM": (llama.llama, "llama"),
    "MistralForCausalLM": (llama.mistral, "mistral"),
    "MixtralForCausalLM": (llama.mixtral, "mixtral"),
    "Qwen2ForCausalLM": (qwen.qwen2, "qwen2"),
    "Qwen3ForCausalLM": (qwen.qwen3, "qwen3"),
    "Qwen3MoeForCausalLM": (qwen.qwen3_moe, "qwen3_moe"),
    "Gemma2ForCausalLM": (gemma.gemma2, "gemma2"),
    "Gemma3ForCausalLM": (gemma.gemma3_text, "gemma3_text"),
    "Phi3ForCausalLM": (llama.phi3, "phi3"),
    "OPTForCausalLM": (gpt.opt, "opt"),
    "GPT2LMHeadModel": (gpt.gpt2, "gpt2"),
    "GPTNeoXForCausalLM": (gpt.gpt_neox, "gpt_neox"),
    "Olmo2ForCausalLM": (llama.olmo2, "olmo2"),
    "GraniteForCausalLM": (llama.granite, "granite"),
    "SmolLM3ForCausalLM": (llama.smollm3, "smollm3"),
    "Starcoder2ForCausalLM": (llama.starcoder2, "starcoder2"),
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
    family, _ = FAMILIES[architecture]
    return family(Reader(config, architecture))


def quantized(config: Mapping[str, Any]) -> UnsupportedModelError:
    """The refusal of a config with a `quantization_config`."""
    details = config["quantization_config"]
    method = details.get("quant_method", "unknown") if isinstance(details, Mapping) else details
    return UnsupportedModelError(
        f"quantized checkpoints are not supported yet (quantization_config: {method}); "
        "use the unquantized checkpoint of this model"
    )
