"""Checkpoint tensors into a decoder's parameters: every one in its place, none forgotten."""

import logging
import os
import pty
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import quire.weights.loader as loader
from paged_steps import PagedModel
from quire.core.config import ModelConfig
from quire.core.errors import CheckpointError, InsufficientMemoryError, UnsupportedModelError
from quire.kernels.select import torch_ops
from quire.models.decoder import Decoder
from quire.models.families import recipe_from_config
from quire.models.recipe import Placement, WeightMap
from quire.platform.detect import detect
from quire.weights.build import build_model
from quire.weights.dummy import fill_dummy
from quire.weights.hf_config import read_hf_config
from quire.weights.loader import destination, load_weights
from tiny_models import LONGEST_SEQUENCE, SHORTEST_PROMPT, save_tiny_model, tiny_models

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Parts(nn.Module):
    """A model of loose parameters."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            data = torch.full(shape, float("nan"))
            self.register_parameter(name, nn.Parameter(data, requires_grad=False))


class PartsRecipe:
    """The part of a recipe the loader reads."""

    def __init__(self, places: dict[str, tuple[Placement, ...]], **rest: Any) -> None:
        self.weights = WeightMap(places, **rest)


def load(model: nn.Module, recipe: Any, folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file({k: v.clone() for k, v in tensors.items()}, folder / "model.safetensors")
    load_weights(model, recipe, folder, progress=False)


class TestPlacements:
    def test_rows_of_a_fused_parameter(self, tmp_path: Path) -> None:
        model = Parts(qkv=(6, 4), bias=(6,))
        q, k = torch.rand(4, 4), torch.rand(2, 4)
        recipe = PartsRecipe(
            {
                "q": (Placement("qkv", rows=(0, 4)),),
                "k": (Placement("qkv", rows=(4, 6)),),
                "bq": (Placement("bias", rows=(0, 4)),),
                "bk": (Placement("bias", rows=(4, 6)),),
            }
        )
        load(model, recipe, tmp_path, {"q": q, "k": k, "bq": q[0], "bk": k[0, :2]})
        assert torch.equal(model.qkv, torch.cat([q, k]))
        assert torch.equal(model.bias, torch.cat([q[0], k[0, :2]]))

    def test_experts_one_by_one_and_together(self, tmp_path: Path) -> None:
        model = Parts(gate_up=(2, 6, 4), down=(2, 4, 3))
        gates, ups = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
        downs = torch.rand(2, 3, 4)
        places: dict[str, tuple[Placement, ...]] = {
            "downs": (Placement("down", transform="transpose"),)
        }
        for x in range(2):
            places[f"gate{x}"] = (Placement("gate_up", rows=(0, 3), expert=x),)
            places[f"up{x}"] = (Placement("gate_up", rows=(3, 6), expert=x),)
        tensors = {f"gate{x}": gates[x] for x in range(2)} | {f"up{x}": ups[x] for x in range(2)}
        load(model, PartsRecipe(places), tmp_path, {**tensors, "downs": downs})
        assert torch.equal(model.gate_up, torch.cat([gates, ups], dim=1))
        assert torch.equal(model.down, downs.transpose(1, 2))

    def test_transforms(self, tmp_path: Path) -> None:
        heads, width = 3, 2
        model = Parts(conv=(5, 7), qkv=(heads * 3 * width, 4), bias=(heads * 3 * width,))
        conv, qkv = torch.rand(7, 5), torch.rand(heads * 3 * width, 4)
        split = {"transform": "split_heads_qkv", "num_heads": heads}
        recipe = PartsRecipe(
            {
                "conv": (Placement("conv", transform="transpose"),),
                "qkv": (Placement("qkv", **split),),  # type: ignore[arg-type]
                "bias": (Placement("bias", **split),),  # type: ignore[arg-type]
            }
        )
        load(model, recipe, tmp_path, {"conv": conv, "qkv": qkv, "bias": qkv[:, 0]})
        expected = qkv.view(heads, 3, width, 4).transpose(0, 1).reshape(-1, 4)
        assert torch.equal(model.conv, conv.T)
        assert torch.equal(model.qkv, expected)
        assert torch.equal(model.bias, expected[:, 0])

    def test_a_destination_is_a_view(self) -> None:
        parameter = torch.zeros(2, 6, 4)
        destination(parameter, Placement("p", rows=(2, 5), expert=1, transform="transpose")).fill_(
            1
        )
        assert parameter.sum() == 12
        assert torch.equal(parameter[1, 2:5], torch.ones(3, 4))

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("chunk", [1, 100, 1000, 1 << 20])
    def test_chunks_and_conversion(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, device: str
    ) -> None:
        monkeypatch.setattr(loader, "CHUNK_BYTES", chunk)
        model = Parts(a=(37, 11), b=(11, 37), c=(), d=(5, 0)).to(device, torch.bfloat16)
        a, b = torch.rand(37, 11), torch.rand(37, 11)
        recipe = PartsRecipe(
            {
                "a": (Placement("a"),),
                "b": (Placement("b", transform="transpose"),),
                "c": (Placement("c"),),
                "d": (Placement("d"),),
            }
        )
        tensors = {"a": a, "b": b, "c": torch.tensor(2.5), "d": torch.empty(5, 0)}
        load(model, recipe, tmp_path, tensors)
        assert torch.equal(model.a.cpu(), a.bfloat16())
        assert torch.equal(model.b.cpu(), b.bfloat16().T)
        assert model.c == 2.5

    def test_parameters_made_in_inference_mode(self, tmp_path: Path) -> None:
        with torch.inference_mode():
            model = Parts(a=(3, 2))
        value = torch.rand(3, 2)
        load(model, PartsRecipe({"a": (Placement("a"),)}), tmp_path, {"a": value})
        assert torch.equal(model.a, value)


PLACES = {f"layer.{i}": (Placement("w", rows=(i, i + 1)),) for i in range(6)}


class TestAccounting:
    def tensors(self, *without: int) -> dict[str, Tensor]:
        return {f"layer.{i}": torch.rand(1, 4) for i in range(6) if i not in without}

    def test_missing_tensors_are_listed_then_counted(self, tmp_path: Path) -> None:
        recipe = PartsRecipe(PLACES)
        with pytest.raises(CheckpointError, match=r"lacks tensor layer\.4;"):
            load(Parts(w=(6, 4)), recipe, tmp_path, self.tensors(4))
        with pytest.raises(CheckpointError, match=r"layer\.0, layer\.1, layer\.2 and 2 more"):
            load(Parts(w=(6, 4)), recipe, tmp_path, self.tensors(0, 1, 2, 3, 4))

    def test_leftover_tensors(self, tmp_path: Path) -> None:
        extra = {"other": torch.rand(2), "rotary.inv_freq": torch.rand(2)}
        recipe = PartsRecipe(PLACES, ignored=(r"inv_freq$",))
        with pytest.raises(CheckpointError, match="holds tensor other that this architecture"):
            load(Parts(w=(6, 4)), recipe, tmp_path, self.tensors() | extra)

    def test_wrong_shape(self, tmp_path: Path) -> None:
        tensors = self.tensors() | {"layer.3": torch.rand(1, 5)}
        message = r"layer\.3 in model\.safetensors has shape \[1, 5\].*makes it \[1, 4\]"
        with pytest.raises(CheckpointError, match=message):
            load(Parts(w=(6, 4)), PartsRecipe(PLACES), tmp_path, tensors)

    def test_an_optional_tensor_may_be_missing_if_its_parameter_is_filled(
        self, tmp_path: Path
    ) -> None:
        places = {**PLACES, "head": ()}
        recipe = PartsRecipe(places, optional=frozenset({"head", "layer.5"}))
        load(Parts(w=(6, 4)), recipe, tmp_path, {**self.tensors(), "head": torch.rand(9)})
        load(Parts(w=(6, 4)), recipe, tmp_path, self.tensors())
        with pytest.raises(CheckpointError, match="leaves tensor w without values"):
            load(Parts(w=(6, 4)), recipe, tmp_path, self.tensors(5))

    def test_prefixes_present_or_absent(self, tmp_path: Path) -> None:
        recipe = PartsRecipe({"model.a": (Placement("a"),)}, prefixes=("model.",))
        for name in ("a", "model.a"):
            model = Parts(a=(3,))
            load(model, recipe, tmp_path, {name: torch.ones(3)})
            assert model.a.sum() == 3
        with pytest.raises(CheckpointError, match=r"holds model\.a twice"):
            load(Parts(a=(3,)), recipe, tmp_path, {"a": torch.ones(3), "model.a": torch.ones(3)})

    def test_a_tied_parameter_has_one_memory(self, tmp_path: Path) -> None:
        model = Parts(embedding=(3, 2))
        model.head = model.embedding
        value = torch.rand(3, 2)
        load(model, PartsRecipe({"e": (Placement("embedding"),)}), tmp_path, {"e": value})
        assert torch.equal(model.head, value)


@pytest.mark.parametrize("name", list(tiny_models()))
def test_families_through_build_model(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved by transformers, read by the engine's own road: the same logits."""
    monkeypatch.setattr(loader, "CHUNK_BYTES", 3000)
    reference = save_tiny_model(name, tmp_path)
    config = ModelConfig(str(tmp_path))
    model = build_model(
        config,
        tmp_path,
        read_hf_config(tmp_path).config,
        torch_ops("a test"),
        detect("cpu"),
        LONGEST_SEQUENCE.get(name, 128),
        torch.float32,
        progress=False,
    )
    assert isinstance(model, Decoder)
    ids = [3, 1, 4, 1, 5, 9, 2, 6] * max(1, -(-SHORTEST_PROMPT.get(name, 1) // 8))
    (ours,) = PagedModel(model).step([(0, ids)])
    with torch.inference_mode():
        theirs = reference(torch.tensor([ids]), use_cache=False).logits[0]
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def llama(dtype: torch.dtype = torch.float32) -> Decoder:
    recipe = recipe_from_config(LLAMA)
    return Decoder(recipe, torch_ops("a test"), dtype, torch.device("cpu"), 64)


class TestDummy:
    def test_the_same_each_time_and_other_for_another_seed(self) -> None:
        first, again, other = llama(), llama(), llama()
        for model, seed in ((first, 1), (again, 1), (other, 2)):
            fill_dummy(model, seed)
        for (name, a), b, c in zip(
            first.named_parameters(), again.parameters(), other.parameters()
        ):
            assert torch.equal(a, b), name
            assert not torch.equal(a, c), name

    def test_values_do_not_depend_on_the_other_parameters(self) -> None:
        large, small = Parts(a=(700, 600), b=(4, 4)), Parts(b=(4, 4))
        fill_dummy(large)
        fill_dummy(small)
        assert torch.equal(large.b, small.b)
        assert large.a.isfinite().all()
        assert not torch.equal(large.a[0], large.a[1])
        assert large.a.std() == pytest.approx(3**-0.5 * 600**-0.5, rel=0.01)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_logits_are_finite_and_differ(self, dtype: torch.dtype) -> None:
        model = llama(dtype)
        fill_dummy(model)
        assert {round(float(p.mean()), 1) for n, p in model.named_parameters() if "norm" in n} == {
            1.0
        }
        (logits,) = PagedModel(model).step([(0, list(range(40)))])
        assert logits.isfinite().all()
        assert logits.std() > 0.01


class TestProgress:
    def save(self, folder: Path) -> tuple[Parts, Any]:
        save_file({"a": torch.rand(300, 40)}, folder / "model.safetensors")
        return Parts(a=(300, 40)), PartsRecipe({"a": (Placement("a"),)})

    def test_a_function_sees_every_byte(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loader, "CHUNK_BYTES", 1600)
        model, recipe = self.save(tmp_path)
        seen: list[tuple[int, int]] = []
        load_weights(model, recipe, tmp_path, progress=lambda *pair: seen.append(pair))
        assert len(seen) == 30
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1][0] == 48_000
        assert seen[-1][1] == (tmp_path / "model.safetensors").stat().st_size

    def test_one_line_where_there_is_no_terminal(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        model, recipe = self.save(tmp_path)
        with caplog.at_level(logging.INFO, logger="quire"):
            load_weights(model, recipe, tmp_path, progress=False)
            assert caplog.messages == []
            load_weights(model, recipe, tmp_path)
        (line,) = caplog.messages
        assert line.startswith("loaded 0.0 MB in ")
        assert line.endswith("/s")
        assert capfd.readouterr().out == ""

    def test_a_bar_on_a_terminal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model, recipe = self.save(tmp_path)
        leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (24, 80))
        with os.fdopen(follower, "w") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            load_weights(model, recipe, tmp_path)
            terminal.flush()
            shown = os.read(leader, 65536).decode()
        os.close(leader)
        assert "loading weights" in shown


class TestBuild:
    def build(self, config: ModelConfig, folder: Path, hf_config: dict[str, Any]) -> Any:
        return build_model(
            config, folder, hf_config, torch_ops("a test"), detect("cpu"), 64, torch.bfloat16, False
        )

    def test_dummy_needs_no_files(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        config = ModelConfig(str(tmp_path), load_format="dummy")
        model = self.build(config, tmp_path, LLAMA)
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}

    def test_an_unknown_architecture_names_the_nearest(self, tmp_path: Path) -> None:
        hf_config = {"architectures": ["LlamaaForCausalLM"], "model_type": "llamaa"}
        (tmp_path / "config.json").write_text('{"model_type": "llamaa"}')
        config = ModelConfig(str(tmp_path))
        with pytest.raises(UnsupportedModelError, match="nearest that runs is 'LlamaForCausalLM'"):
            self.build(config, tmp_path, hf_config)

    def test_quantized_checkpoints_are_refused(self, tmp_path: Path) -> None:
        hf_config = {**LLAMA, "quantization_config": {"quant_method": "awq"}}
        for impl in ("auto", "transformers"):
            config = ModelConfig(str(tmp_path), model_impl=impl)  # type: ignore[arg-type]
            with pytest.raises(UnsupportedModelError, match="quantized checkpoints are not"):
                self.build(config, tmp_path, hf_config)

    def test_weights_that_do_not_fit(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        config = ModelConfig(str(tmp_path), load_format="dummy")
        with pytest.raises(InsufficientMemoryError, match="LlamaForCausalLM in bfloat16"):
            self.build(config, tmp_path, {**LLAMA, "vocab_size": 1 << 44})
