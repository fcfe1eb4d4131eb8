"""Tiny checkpoints, saved by transformers and read back as any checkpoint is."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from quire.kernels.select import torch_ops
from quire.models.decoder import Decoder
from quire.models.families import recipe_from_config
from quire.models.recipe import Placement, WeightMap
from tiny_models import LONGEST_SEQUENCE, save_tiny_model


def build(folder: Path, dtype: torch.dtype, max_len: int | None = None) -> Decoder:
    """The decoder of a checkpoint folder on the CPU."""
    recipe = recipe_from_config(json.loads((folder / "config.json").read_text()))
    max_len = max_len or recipe.max_position
    model = Decoder(recipe, torch_ops("a test"), dtype, torch.device("cpu"), max_len)
    fill(model, recipe.weights, load_file(folder / "model.safetensors"))
    return model


def fill(model: Decoder, weights: WeightMap, tensors: Mapping[str, Tensor]) -> None:
    """Place every tensor by the map; every parameter must be covered exactly once."""
    params = dict(model.named_parameters())
    filled = dict.fromkeys(params, 0)
    for name, source in tensors.items():
        if weights.ignores(name):
            continue
        key = weights.find(name)
        assert key is not None, f"{name} is not in the weight map"
        for place in weights.places[key]:
            target = params[place.param].data
            target = target if place.expert is None else target[place.expert]
            target = target if place.rows is None else target[slice(*place.rows)]
            made = _transform(source, place)
            assert made.shape == target.shape, f"{name}: {made.shape} into {target.shape}"
            target.copy_(made)
            filled[place.param] += target.numel()
    assert filled == {name: p.numel() for name, p in params.items()}


def _transform(source: Tensor, place: Placement) -> Tensor:
    match place.transform:
        case "transpose":
            return source.T
        case "split_heads_qkv":
            parts = source.unflatten(0, (place.num_heads, 3, -1))  # [H, 3, D, ...]
            return parts.transpose(0, 1).flatten(0, 2)
    return source


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small only lose by threads; beside other test workers, a factor of ten."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[object, Decoder]]:
    """(name, dtype) -> (the transformers model in fp32, our decoder of its checkpoint)."""
    saved: dict[str, tuple[object, Path]] = {}
    built: dict[tuple[str, torch.dtype], Decoder] = {}

    def get(name: str, dtype: torch.dtype = torch.float32) -> tuple[object, Decoder]:
        if name not in saved:
            folder = tmp_path_factory.mktemp(name)
            saved[name] = (save_tiny_model(name, folder), folder)
        reference, folder = saved[name]
        if (name, dtype) not in built:
            built[name, dtype] = build(folder, dtype, LONGEST_SEQUENCE.get(name))
        return reference, built[name, dtype]

    return get


@pytest.fixture(scope="session")
def fill_decoder() -> Callable[[Decoder, WeightMap, Mapping[str, Tensor]], None]:
    """`fill`, for tests that make their own recipe."""
    return fill
