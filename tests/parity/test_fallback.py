"""Architectures without a recipe: through transformers and paged attention, the same results.

Each is saved by transformers and read back the way a user's checkpoint is, by `build_model`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from paged_steps import PagedModel
from quire.core.config import ModelConfig
from quire.core.errors import CheckpointError, UnsupportedModelError
from quire.kernels.select import torch_ops
from quire.models.fallback import FallbackModel
from quire.models.families import FAMILIES
from quire.platform.detect import detect
from quire.weights.build import build_model, model_recipe
from transformers_parity import (
    assert_close,
    check_chunks,
    check_greedy,
    prompt,
    reference_logits,
)

SIZES: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LATENT = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "head_dim": 8,
    "num_key_value_heads": 6,
}
EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
HEAD = {"head_dim": 16}
# name -> (model class, arguments of its config): what each one stretches.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    # windows on three layers of four, no rope on the fourth, scaled logits, parallel residual
    "cohere2": ("Cohere2ForCausalLM", {**HEAD, "sliding_window": 12, "logit_scale": 0.25}),
    # does not pass keywords down to attention; partial rotary
    "stablelm": ("StableLmForCausalLM", {}),
    # LayerNorm and biases, partial rotary
    "phi": ("PhiForCausalLM", {}),
    # scaled embedding, offset norms
    "gemma": ("GemmaForCausalLM", HEAD),
    # fused gate and up, interleaved rope, four norms a layer
    "glm4": ("Glm4ForCausalLM", HEAD),
    # one KV head, learned positions, model.transformer for a base
    "gpt_bigcode": ("GPTBigCodeForCausalLM", {}),
    # values narrower than keys; experts that transformers merges when it reads them
    "deepseek_v3": ("DeepseekV3ForCausalLM", {**LATENT, **EXPERTS}),
    # soft caps and alternating windows
    "vaultgemma": ("VaultGemmaForCausalLM", {**HEAD, "sliding_window": 12}),
}
TOLERANCE = 1e-4  # of the largest logit
Pair = tuple[Any, FallbackModel]


def save_tiny(name: str, folder: Path) -> Any:
    """Make the model with random weights, save it, and return it."""
    class_name, arguments = MODELS[name]
    model_class = getattr(transformers, class_name)
    config = model_class.config_class(**{**SIZES, **arguments})
    torch.manual_seed(7)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name or parameter_name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    model.set_attn_implementation("eager")  # the fused one of some versions ignores soft caps
    return model


def load(folder: Path, **options: Any) -> FallbackModel:
    """What the engine does with the folder."""
    hf_config = json.loads((folder / "config.json").read_text())
    config = replace(ModelConfig(model=str(folder)), **options)
    model = build_model(
        config, folder, hf_config, torch_ops("a test"), detect("cpu"), 128, torch.float32, False
    )
    assert isinstance(model, FallbackModel)
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """name -> (transformers' model, ours read from its checkpoint); made once each."""
    made: dict[str, Pair] = {}

    def get(name: str) -> Pair:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = save_tiny(name, folder), load(folder)
        return made[name]

    return get


@pytest.mark.parametrize("name", MODELS)
class TestFallback:
    def test_has_no_recipe(self, name: str) -> None:
        assert MODELS[name][0] not in FAMILIES

    def test_mixed_lengths_in_one_step(self, pair: Callable[[str], Pair], name: str) -> None:
        reference, model = pair(name)
        prompts = [prompt(n, 1) for n in (33, 1, 18, 50)]
        order = (3, 0, 2, 1)
        ours = PagedModel(model).step([(row, prompts[row]) for row in order])
        for row, logits in zip(order, ours):
            theirs = reference_logits(reference, prompts[row])
            assert logits.dtype == torch.float32
            assert theirs.std() > 0.02  # logits that say something
            assert_close(logits, theirs, TOLERANCE)

    @pytest.mark.parametrize("page_size", [16, 32])
    def test_chunks_of_seven(self, pair: Callable[[str], Pair], name: str, page_size: int) -> None:
        reference, model = pair(name)
        check_chunks(reference, PagedModel(model, page_size), TOLERANCE)

    def test_greedy_tokens_beside_a_prefill(self, pair: Callable[[str], Pair], name: str) -> None:
        reference, model = pair(name)
        check_greedy(reference, PagedModel(model), 64, TOLERANCE)


class TestRecipe:
    def test_the_dtype_is_the_checkpoints(self, tmp_path: Path) -> None:
        for dtype in ("float32", "bfloat16", "float16"):
            hf_config = _config(tmp_path, "PhiForCausalLM", dtype=dtype)
            recipe = model_recipe(ModelConfig(model=str(tmp_path)), tmp_path, hf_config)
            assert recipe.dtype == dtype
            assert (recipe.vocab_size, recipe.hidden_size, recipe.max_position) == (131, 48, 128)

    def test_windows_make_groups(self, pair: Callable[[str], Pair]) -> None:
        _, model = pair("cohere2")
        groups = model.recipe.kv_groups()
        assert [group.window for group in groups] == [None, 12]
        assert [layer.layer for layer in groups[0].layers] == [3]
        assert [layer.layer for layer in groups[1].layers] == [0, 1, 2]

    def test_the_cache_is_as_wide_as_the_wider_of_keys_and_values(
        self, pair: Callable[[str], Pair]
    ) -> None:
        _, model = pair("deepseek_v3")
        assert {layer.head_dim for layer in model.recipe.layers} == {24}
        assert {layer.value_dim for layer in model.recipe.layers} == {16}


def _config(folder: Path, class_name: str, **arguments: Any) -> dict[str, Any]:
    config = getattr(transformers, class_name).config_class(**{**SIZES, **arguments})
    config.architectures = [class_name]
    config.save_pretrained(folder)
    made: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return made


REFUSED = [
    ("MambaForCausalLM", {}, "no position_ids"),
    ("BloomForCausalLM", {}, "no position_ids"),
    ("GPTJForCausalLM", {"rotary_dim": 8}, "attention cannot be replaced"),
    ("GptOssForCausalLM", {"num_local_experts": 4, **HEAD}, "attention sinks"),
    ("OlmoHybridForCausalLM", {}, "keep a state there is no cache for"),
    ("BertLMHeadModel", {}, "not causal"),
    ("T5ForConditionalGeneration", {}, "encoder-decoder"),
]


class TestRefusals:
    @pytest.mark.parametrize(("class_name", "arguments", "reason"), REFUSED)
    def test_says_why_and_what_else_runs(
        self, tmp_path: Path, class_name: str, arguments: dict[str, Any], reason: str
    ) -> None:
        hf_config = _config(tmp_path, class_name, **arguments)
        with pytest.raises(UnsupportedModelError, match=reason) as caught:
            model_recipe(ModelConfig(model=str(tmp_path)), tmp_path, hf_config)
        message = str(caught.value)
        assert "\n" not in message
        assert class_name in message
        assert any(family in message for family in FAMILIES)

    def test_code_of_the_checkpoint_is_not_run_unasked(self, tmp_path: Path) -> None:
        hf_config = {
            "model_type": "its_own",
            "architectures": ["ItsOwnForCausalLM"],
            "auto_map": {"AutoConfig": "its_own.Config", "AutoModelForCausalLM": "its_own.Model"},
        }
        (tmp_path / "config.json").write_text(json.dumps(hf_config))
        (tmp_path / "its_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        with pytest.raises(UnsupportedModelError, match="trust_remote_code=True"):
            model_recipe(ModelConfig(model=str(tmp_path)), tmp_path, hf_config)
        assert not (tmp_path / "ran").exists()

    def test_state_beside_the_cache_is_found_on_loading(self, pair: Callable[[str], Pair]) -> None:
        _, model = pair("phi")
        model.verify()
        layer = model.model.model.layers[2]
        # What a convolution over the last tokens does to a layer's input.
        hook = layer.register_forward_pre_hook(
            lambda _, arguments: (arguments[0] + arguments[0].roll(1, 1), *arguments[1:])
        )
        try:
            with pytest.raises(UnsupportedModelError, match="differs from transformers' own"):
                model.verify()
        finally:
            hook.remove()

    def test_missing_tensor(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_tiny("phi", tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        del tensors["model.layers.1.mlp.fc1.weight"]
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.fc1\.weight"):
            load(tmp_path)

    def test_truncated_file(self, tmp_path: Path) -> None:
        save_tiny("phi", tmp_path)
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
            load(tmp_path)


def test_dummy_weights_give_finite_logits(tmp_path: Path) -> None:
    hf_config = _config(tmp_path, "StableLmForCausalLM")
    assert hf_config
    model = load(tmp_path, load_format="dummy")
    (logits,) = PagedModel(model).step([(0, prompt(20, 0))])
    assert logits.isfinite().all()
    assert logits.std() > 0


def test_a_family_with_a_recipe_runs_through_transformers_on_request(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(**SIZES)
    torch.manual_seed(0)
    reference = transformers.LlamaForCausalLM(config).eval()
    reference.save_pretrained(tmp_path)
    model = load(tmp_path, model_impl="transformers")
    ids = prompt(30, 0)
    (ours,) = PagedModel(model).step([(0, ids)])
    assert_close(ours, reference_logits(reference, ids), TOLERANCE)
