"""One model, ready to run: recipe or fallback, built on the device and filled with its weights.

The only place that decides whether Quire's decoder or a transformers module runs an
architecture. Runs in the worker.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from quire.core.config import ModelConfig
from quire.core.errors import InsufficientMemoryError, UnsupportedModelError, nearest
from quire.kernels.table import Ops
from quire.models.decoder import Decoder
from quire.models.fallback import FallbackModel, empty_fallback, load_fallback
from quire.models.fallback_recipe import FallbackRecipe, fallback_recipe
from quire.models.families import FAMILIES, architecture_of, quantized, recipe_from_config
from quire.models.recipe import MoeRecipe, Recipe
from quire.platform.caps import DeviceCaps
from quire.platform.memory import is_out_of_memory
from quire.quant.layouts import AT_LOAD
from quire.quant.layouts.layout import Dense
from quire.weights.checkpoint import open_checkpoint
from quire.weights.dummy import fill_dummy
from quire.weights.hf_config import read_hf_config
from quire.weights.kv_scales import read_kv_scales
from quire.weights.loader import load_weights
from quire.weights.packed import PackedWeights
from quire.weights.progress import ProgressOption, loading_progress
from quire.weights.source import ModelSource, fetch_small_files, fetch_weights

logger = logging.getLogger("quire")


def model_recipe(
    config: ModelConfig, directory: Path, hf_config: Mapping[str, Any]
) -> Recipe | FallbackRecipe:
    """What `build_model` would build, without its weights: for memory plans.

    Args:
        directory: the folder of config.json (and of the checkpoint's code, if it is trusted).
        hf_config: the parsed config.json (`weights.hf_config`).

    Raises:
        UnsupportedModelError: the architecture, or a value in its config, cannot run; names the
            nearest architecture that can.
    """
    architecture = architecture_of(hf_config)
    if config.model_impl == "quire" or (config.model_impl == "auto" and architecture in FAMILIES):
        recipe = recipe_from_config(hf_config)
        if config.quantization and any(isinstance(la.mlp, MoeRecipe) for la in recipe.layers):
            raise _not_quantized(config, f"the routed experts of {architecture}")
        return recipe
    if config.quantization:
        raise _not_quantized(config, f"{architecture}, which runs through transformers")
    if hf_config.get("quantization_config"):
        raise quantized(hf_config)
    try:
        return fallback_recipe(directory, hf_config, trust_remote_code=config.trust_remote_code)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{error}{_alternative(architecture)}") from error


def _not_quantized(config: ModelConfig, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"quantization={config.quantization!r} does not cover {what}; leave it out"
    )


def check_model(config: ModelConfig) -> None:
    """Find out without loading it whether a model could run: config, architecture, and, where
    its files are here already, that they are all there and whole.

    Raises:
        ModelNotFoundError, UnsupportedModelError, CheckpointError: as `build_model`.
    """
    source = ModelSource.of_model(config)
    directory = fetch_small_files(source)
    model_recipe(config, directory, read_hf_config(directory).config)
    if config.load_format != "dummy" and Path(config.model).is_dir():
        for _ in open_checkpoint(directory, config.load_format).shards():
            pass


def build_model(
    config: ModelConfig,
    directory: Path,
    hf_config: Mapping[str, Any],
    ops: Ops,
    caps: DeviceCaps,
    max_len: int,
    dtype: torch.dtype,
    progress: ProgressOption = True,
    scale_cache: bool = False,
) -> Decoder | FallbackModel:
    """Build the model on `caps`' device and fill it with its weights.

    Args:
        directory: the folder of config.json; weights not in it yet are downloaded.
        hf_config: the parsed config.json.
        max_len: the longest sequence the model will be given.
        dtype: of parameters and activations.
        scale_cache: take the checkpoint's scales of keys and values over.

    Raises:
        UnsupportedModelError: as `model_recipe`.
        CheckpointError, ModelNotFoundError: the weights cannot be had or read.
        InsufficientMemoryError: the weights do not fit the device.
    """
    recipe = model_recipe(config, directory, hf_config)
    device = torch.device(caps.torch_device)
    dummy = config.load_format == "dummy"
    weights = directory
    if not dummy:
        weights = fetch_weights(ModelSource.of_model(config), config.load_format)
    packs = caps.kind == "cpu" and not dummy and isinstance(recipe, Recipe)
    if config.packed_weights_dir is not None and not packs:
        logger.warning(
            "packed_weights_dir is not used: it is for checkpoints on a CPU, of models that do not "
            "run through transformers"
        )
    try:
        if isinstance(recipe, Recipe):
            layouts = AT_LOAD[config.quantization] if config.quantization else (Dense, Dense)
            decoder = Decoder(recipe, ops, dtype, device, max_len, *layouts)
            packed = None
            if config.packed_weights_dir is not None and packs:
                checkpoint = open_checkpoint(weights, config.load_format)
                folder = Path(config.packed_weights_dir).expanduser()
                packed = PackedWeights(folder, decoder, checkpoint, hf_config)
            if dummy:
                fill_dummy(decoder, config.seed)
            elif packed is None or not packed.map():
                load_weights(decoder, recipe, weights, config.load_format, progress)
                if packed is not None:
                    packed.keep()
            if scale_cache and not dummy:
                decoder.scale_cache(read_kv_scales(weights, config.load_format))
            return decoder
        logger.info("%s has no recipe: running it through transformers", recipe.architecture)
        if dummy:
            fallback = empty_fallback(recipe, ops, dtype, device)
            fill_dummy(fallback, config.seed)
            return fallback
        return _load_fallback(recipe, weights, ops, dtype, device, config.load_format, progress)
    except (MemoryError, RuntimeError) as error:  # torch's derive from RuntimeError
        if not is_out_of_memory(error):
            raise
        name = str(dtype).removeprefix("torch.")
        raise InsufficientMemoryError(
            f"the weights of {recipe.architecture} in {name} do not fit {caps.name}, which had "
            f"{caps.free_memory / 2**30:.1f} GiB free; use a smaller model, or "
            "dtype='bfloat16' if it is float32, or quantization='int8'"
        ) from error


def _load_fallback(
    recipe: FallbackRecipe,
    directory: Path,
    ops: Ops,
    dtype: torch.dtype,
    device: torch.device,
    load_format: str,
    progress: ProgressOption,
) -> FallbackModel:
    checkpoint = open_checkpoint(directory, load_format)
    # Our readers name a broken file better than transformers does; headers cost next to nothing.
    sizes = [sum(entry.nbytes for entry in entries) for entries in checkpoint.shards()]
    with loading_progress(progress, sum(sizes)) as report:
        model = load_fallback(recipe, directory, ops, dtype, device, load_format)
        report(sum(sizes))
    return model


def _alternative(architecture: str) -> str:
    """The nearest architecture that runs, for an error message."""
    if architecture in FAMILIES:
        return "; leave out model_impl='transformers': Quire's own decoder runs it"
    near = nearest(architecture, FAMILIES).replace("did you mean", "the nearest that runs is")
    return near.rstrip("?") or f"; these run: {', '.join(sorted(FAMILIES))}"
