"""FlashAttention-3 in place of our kernel: when, and that it is told the right things.

Where it is not installed a stand-in takes its place that computes what its documentation says.
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quire.kernels import select
from quire.kernels.attention import flash_attention
from quire.kernels.attention.reference import attention as reference_attention
from quire.kernels.select import reference_ops, with_flash_attention
from quire.kernels.table import Ops

STAND_IN = """
import torch

calls = []

def flash_attn_with_kvcache(
    q, k_cache, v_cache, *, cache_seqlens, page_table, cu_seqlens_q, max_seqlen_q, softmax_scale,
    causal, num_splits,
):
    assert causal and num_splits == 1 and len(page_table) == len(cache_seqlens)
    assert max_seqlen_q == cu_seqlens_q.diff().max()
    calls.append(len(q))
    out = torch.full(q.shape, float("nan"), dtype=q.dtype, device=q.device)
    starts = cu_seqlens_q.tolist()
    for i, length in enumerate(cache_seqlens.tolist()):
        queries = slice(starts[i], starts[i + 1])
        pages = page_table[i, : -(-length // k_cache.shape[1])].long()
        k, v = (x[pages].flatten(0, 1)[:length].float() for x in (k_cache, v_cache))
        group = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(group, 1) for x in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q[queries].float(), k) * softmax_scale
        num = starts[i + 1] - starts[i]
        hidden = torch.ones(num, length, dtype=torch.bool, device=q.device).triu(length - num + 1)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        out[queries] = torch.einsum("hqk,khd->qhd", weights, v).to(q.dtype)
    return out
"""
FLAGS = dict.fromkeys((f"FLASHATTENTION_DISABLE_{part}" for part in flash_attention.NEEDED), False)
IS_REAL = torch.cuda.is_available() and importlib.util.find_spec("flash_attn_interface")
PROMPTS = [(33, 33), (5, 21), (70, 70), (2, 90)]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """install(interface, flags) in place of the package."""

    def install(interface: str = STAND_IN, flags: dict[str, bool] = FLAGS) -> None:
        (tmp_path / "flash_attn_interface.py").write_text(interface)
        (tmp_path / "flash_attn_config.py").write_text(f"CONFIG = {{'build_flags': {flags}}}")
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("flash_attn_interface", "flash_attn_config"):
            monkeypatch.delitem(sys.modules, name, raising=False)

    return install


@pytest.fixture
def flash(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Ops:
    """Takes prompts of any number of tokens."""
    if not IS_REAL:
        install()
    monkeypatch.setattr(flash_attention, "MIN_TOKENS", 1)
    return with_flash_attention(reference_ops("test"))


def paged_prompts(paged_case: Callable[..., Any], **settings: Any) -> Any:
    sizes = {"head_dim": 128, "page_size": 16, "dtype": torch.bfloat16} | settings
    lens = sizes.pop("lens", PROMPTS)
    case = paged_case(lens, **sizes)
    return case.with_batch(parts=None) if min(n for n, _ in lens) > 1 else case


@pytest.mark.parametrize("heads", [(4, 1), (6, 2), (3, 3)])
@pytest.mark.parametrize("page_size", [8, 16, 24])
def test_prompts(
    flash: Ops,
    heads: tuple[int, int],
    page_size: int,
    paged_case: Callable[..., Any],
    check: Callable[[Tensor, Tensor], None],
) -> None:
    sizes = {"heads": heads[0], "kv_heads": heads[1], "page_size": page_size}
    case = paged_prompts(paged_case, **sizes)
    arguments = (case.q, case.k_pages, case.v_pages, case.batch, 0.1, None, None)
    assert flash_attention.serves(case.q, case.k_pages, case.batch, None, None)
    check(flash.attention(*arguments), reference_attention(*arguments))
    if not IS_REAL:
        assert sys.modules["flash_attn_interface"].calls == [len(case.q)]


def test_it_takes_long_prompts_alone(
    paged_case: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def serves(window: int | None = None, softcap: float | None = None, **settings: Any) -> bool:
        case = paged_prompts(paged_case, **settings)
        return flash_attention.serves(case.q, case.k_pages, case.batch, window, softcap)

    assert not serves()
    monkeypatch.setattr(flash_attention, "MIN_TOKENS", sum(n for n, _ in PROMPTS))
    assert serves()
    assert not serves(window=50)
    assert not serves(softcap=2.0)
    assert not serves(head_dim=64)
    assert not serves(dtype=torch.float32)
    assert not serves(cache_dtype=torch.float16)
    assert not serves(page_size=128)
    assert not serves(lens=[*PROMPTS, (2, 4097)])
    assert not serves(lens=[*PROMPTS, (1, 40)])  # one decodes
    captured = paged_prompts(paged_case)
    batch = dataclasses.replace(captured.batch, captured=True)
    assert not flash_attention.serves(captured.q, captured.k_pages, batch, None, None)


@pytest.mark.parametrize(
    ("interface", "flags", "reason"),
    [
        (STAND_IN, FLAGS, "for 2048 tokens and more of prompts up to 4096"),
        (STAND_IN, FLAGS | {"FLASHATTENTION_DISABLE_PAGEDKV": True}, "is built without PAGEDKV"),
        ("raise ImportError('no such symbol')", FLAGS, "is not importable (no such symbol)"),
    ],
)
def test_the_choice_says_why(
    install: Callable[..., None], interface: str, flags: dict[str, bool], reason: str
) -> None:
    install(interface, flags)
    ours = reference_ops("test")
    ops = with_flash_attention(ours)
    assert ops.reasons["attention"] == f"reference: test; FlashAttention-3 {reason}"
    assert (ops.attention is ours.attention) == (not reason.startswith("for"))


def test_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    ours = reference_ops("test")
    ops = select.with_flash_attention(ours)
    assert ops.attention is ours.attention
    assert ops.reasons["attention"].endswith("; FlashAttention-3 is not installed")
