"""Scales of keys and values, in every release there has been."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quire.core.errors import CheckpointError
from quire.weights.kv_scales import read_kv_scales


def test_scales_by_layer(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.self_attn.k_proj.k_scale": torch.tensor(0.5),
        "model.layers.0.self_attn.v_proj.v_scale": torch.tensor([0.25], dtype=torch.bfloat16),
        "model.layers.2.self_attn.k_scale": torch.tensor(3.0, dtype=torch.float16),
        "language_model.model.layers.11.self_attn.kv_scale": torch.tensor(2.0),
        "model.layers.1.mlp.down_proj.weight_scale": torch.ones(4),
        "model.layers.1.self_attn.q_scale": torch.ones(()),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = read_kv_scales(tmp_path, "auto")
    assert found == {0: (0.5, 0.25), 2: (3.0, 1.0), 11: (2.0, 2.0)}


@pytest.mark.parametrize("value", [torch.tensor(0.0), torch.tensor(float("nan")), torch.ones(2)])
def test_what_is_no_scale_is_refused(tmp_path: Path, value: torch.Tensor) -> None:
    save_file({"model.layers.3.self_attn.v_scale": value}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.3\.self_attn\.v_scale .* is no scale"):
        read_kv_scales(tmp_path, "auto")
