"""config.json and generation_config.json: what is read from them, and what they may lack."""

import json
from pathlib import Path
from typing import Any

import pytest

from quire.core.config import ModelConfig
from quire.core.errors import ConfigError, ModelNotFoundError, UnsupportedModelError
from quire.models.families import architecture_of
from quire.weights.hf_config import HFConfig, pooling_of, read_hf_config, sampling_defaults

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def write(folder: Path, config: Any, generation: Any = None) -> HFConfig:
    (folder / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return read_hf_config(folder)


def test_the_architecture(tmp_path: Path) -> None:
    assert architecture_of(write(tmp_path, LLAMA).config) == "LlamaForCausalLM"
    found = write(tmp_path, {"model_type": "llama"})
    assert architecture_of(found.config) == "LlamaForCausalLM"
    with pytest.raises(UnsupportedModelError, match="neither 'architectures' nor 'model_type'"):
        write(tmp_path, {"hidden_size": 3})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": ', r"is not valid JSON \(line 1"),
        ("[]", "holds a JSON list, not an object"),
        ("", "is not valid JSON"),
        ("{}", "is missing or empty"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelNotFoundError, match=reason) as caught:
        read_hf_config(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_generation_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "generation_config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelNotFoundError, match=r"generation_config\.json cannot be read"):
        read_hf_config(tmp_path)


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (2, None, (2,)),
        ([2, 5], None, (2, 5)),
        (2, [7, 2], (7, 2)),
        (None, None, ()),
        (None, 0, (0,)),
        (True, -1, ()),
    ],
)
def test_end_of_sequence_ids(
    tmp_path: Path, config: Any, generation: Any, expected: tuple[int, ...]
) -> None:
    made = write(tmp_path, {**LLAMA, "eos_token_id": config}, {"eos_token_id": generation})
    assert made.eos_token_ids() == expected


def test_generation_defaults(tmp_path: Path) -> None:
    given = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    other = {"do_sample": True, "bos_token_id": 1, "min_p": None, "max_new_tokens": 512}
    made = write(tmp_path, LLAMA, {**given, **other})
    assert made.generation_defaults() == {**given, "max_tokens": 512}
    greedy = write(tmp_path, LLAMA, {**given, "do_sample": False})
    assert greedy.generation_defaults() == {"repetition_penalty": 1.1}


def test_where_sampling_defaults_come_from(tmp_path: Path) -> None:
    made = write(tmp_path, LLAMA, {"temperature": 0.6, "top_k": 20})
    assert sampling_defaults(ModelConfig(), made) == {"temperature": 0.6, "top_k": 20}
    for none in ("vllm", "quire"):
        assert sampling_defaults(ModelConfig(generation_config=none), made) == {}
    changed = ModelConfig(override_generation_config={"temperature": 0.1, "max_new_tokens": 9})
    assert sampling_defaults(changed, made) == {"temperature": 0.1, "top_k": 20, "max_tokens": 9}
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = ModelConfig(generation_config=str(other))
    with pytest.raises(ModelNotFoundError, match="is missing or empty"):
        sampling_defaults(elsewhere, made)
    (other / "generation_config.json").write_text('{"min_p": 0.2}')
    assert sampling_defaults(elsewhere, made) == {"min_p": 0.2}
    for wrong in ({"temprature": 1}, {"top_p": "high"}, {"temperature": True}):
        with pytest.raises(ConfigError, match=f"override_generation_config: {next(iter(wrong))}"):
            sampling_defaults(ModelConfig(override_generation_config=wrong), made)


def test_the_text_part_of_a_wrapper(tmp_path: Path) -> None:
    wrapper = {
        "architectures": ["SomeVisionForConditionalGeneration"],
        "model_type": "some_vision",
        "tie_word_embeddings": False,
        "text_config": {"model_type": "llama", "hidden_size": 8},
        "vision_config": {"hidden_size": 9},
    }
    made = write(tmp_path, wrapper)
    assert architecture_of(made.config) == "LlamaForCausalLM"
    assert made.config["hidden_size"] == 8
    assert made.config["tie_word_embeddings"] is False
    unknown = write(tmp_path, {**wrapper, "text_config": {"model_type": "unheard_of"}})
    assert architecture_of(unknown.config) == "SomeVisionForConditionalGeneration"


@pytest.mark.parametrize(
    ("declared", "asked", "expected"),
    [
        (None, "auto", "last"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "auto", "mean"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 8}, "auto", "cls"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "auto", "last"),
        ({"pooling_mode_mean_tokens": True}, "cls", "cls"),
        ({"pooling_mode_max_tokens": True}, "auto", "last"),  # with a warning
    ],
)
def test_pooling(tmp_path: Path, declared: Any, asked: Any, expected: str) -> None:
    if declared is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(declared))
    assert pooling_of(ModelConfig(pooling=asked), tmp_path) == expected
