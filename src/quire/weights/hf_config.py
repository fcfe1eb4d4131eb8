"""config.json and generation_config.json as plain dicts, and the few facts read from them.

Does not interpret the architecture (`models/families/` does). Imports no torch.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.core.config import ModelConfig
from quire.core.errors import ConfigError, ModelNotFoundError, UnsupportedModelError
from quire.core.pooling_params import Pooling
from quire.core.sampling_params import WITH_DEFAULTS
from quire.models.families import FAMILIES, architecture_of

_MODE = "pooling_mode_"

logger = logging.getLogger("quire")


@dataclass(frozen=True, slots=True)
class HFConfig:
    """A model's configuration files.

    Args:
        config: config.json; of a model that wraps a supported decoder, its text part.
        generation: generation_config.json, empty if there is none.
    """

    config: dict[str, Any]
    generation: dict[str, Any]

    def eos_token_ids(self) -> tuple[int, ...]:
        """Every id that ends a sequence, generation_config's first, without repeats."""
        ids: dict[int, None] = {}
        for source in (self.generation, self.config):
            value = source.get("eos_token_id")
            for token in value if isinstance(value, list) else [value]:
                if isinstance(token, int) and not isinstance(token, bool) and token >= 0:
                    ids[token] = None
        return tuple(ids)

    def generation_defaults(self) -> dict[str, float | int]:
        """Sampling defaults the model asks for, by SamplingParams' names."""
        given = {
            name: value
            for name in WITH_DEFAULTS
            if isinstance(value := self.generation.get(name), int | float)
            and not isinstance(value, bool)
        }
        if self.generation.get("do_sample") is False:
            # transformers ignores the sampling fields of a greedy model.
            given = {k: v for k, v in given.items() if k.endswith("_penalty")}
        if isinstance(count := self.generation.get("max_new_tokens"), int) and count > 0:
            given["max_tokens"] = count
        return given


def sampling_defaults(config: ModelConfig, hf: HFConfig) -> dict[str, float | int]:
    """What a request without parameters gets: `generation_config` and its overrides.

    Raises:
        ModelNotFoundError: it names a folder without a generation_config.json.
        ConfigError: an override is no sampling default, or not a number.
    """
    if config.generation_config in ("vllm", "quire"):
        generation: dict[str, Any] = {}
    elif config.generation_config == "auto":
        generation = hf.generation
    else:
        folder = Path(config.generation_config)
        generation = _read_json(folder / "generation_config.json")
        if not generation:
            raise ModelNotFoundError(
                f"{folder}/generation_config.json is missing or empty; generation_config is auto,"
                " vllm or a folder with that file"
            )
    overrides = config.override_generation_config or {}
    for name, value in overrides.items():
        if name not in (*WITH_DEFAULTS, "max_new_tokens", "do_sample"):
            known = ", ".join((*WITH_DEFAULTS, "max_new_tokens"))
            raise ConfigError(
                f"override_generation_config: {name} is no sampling default; known: {known}"
            )
        flag = name == "do_sample"
        if isinstance(value, bool) != flag or not isinstance(value, int | float):
            kind = "true or false" if flag else "a number"
            raise ConfigError(f"override_generation_config: {name} must be {kind}, got {value!r}")
    return HFConfig({}, generation | overrides).generation_defaults()


def pooling_of(config: ModelConfig, directory: Path) -> Pooling:
    """What was asked for; else what the file that sentence-transformers writes says; else "last".

    Raises:
        ModelNotFoundError: that file is not valid JSON.
    """
    if config.pooling != "auto":
        return config.pooling
    declared = _read_json(directory / "1_Pooling" / "config.json")
    modes = [name for name, chosen in declared.items() if name.startswith(_MODE) and chosen is True]
    if not modes or modes == [f"{_MODE}lasttoken"]:
        return "last"
    if modes in ([f"{_MODE}mean_tokens"], [f"{_MODE}cls_token"]):
        return "mean" if "mean" in modes[0] else "cls"
    logger.warning(
        "the model's 1_Pooling/config.json asks for %s, which is not supported; embeddings are the"
        " last token's (--pooling chooses)",
        " and ".join(modes),
    )
    return "last"


def read_hf_config(directory: Path) -> HFConfig:
    """Read a model folder's configuration.

    Raises:
        ModelNotFoundError: there is no config.json, or it is not valid JSON.
        UnsupportedModelError: it names no architecture.
    """
    config = _read_json(directory / "config.json")
    if not config:
        raise ModelNotFoundError(
            f"{directory}/config.json is missing or empty; give the folder of a transformers model"
        )
    generation = _read_json(directory / "generation_config.json")
    text = _text_part(config)
    architecture_of(text)
    return HFConfig(text, generation)


def _text_part(config: dict[str, Any]) -> dict[str, Any]:
    """Of a multi-modal wrapper around a decoder that there is a recipe for, the decoder's."""
    text = config.get("text_config")
    named = config.get("architectures") or [config.get("model_type")]
    if not isinstance(text, dict) or named[0] in FAMILIES:
        return config
    try:
        architecture = architecture_of(text)
    except UnsupportedModelError:
        return config
    if architecture not in FAMILIES:
        return config
    inherited = ("tie_word_embeddings", "torch_dtype", "dtype", "eos_token_id")
    part = {key: config[key] for key in inherited if key in config} | text
    return part | {"architectures": [architecture]}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ModelNotFoundError(f"{path} cannot be read: {error}") from None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelNotFoundError(
            f"{path} is not valid JSON (line {error.lineno}: {error.msg}); download it again"
        ) from None
    if not isinstance(value, Mapping):
        raise ModelNotFoundError(
            f"{path} holds a JSON {type(value).__name__}, not an object; download it again"
        )
    return dict(value)
