"""Which implementation of each op a device uses, chosen once, with the reason for each.

The Triton modules are imported only where a device runs them: Triton is an optional package.
"""

import functools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from quire.kernels.activation import cpp_activation
from quire.kernels.activation import reference as activation_reference
from quire.kernels.attention import cpp_attention, torch_attention
from quire.kernels.attention import reference as attention_reference
from quire.kernels.attention.parts import max_parts, plan_parts
from quire.kernels.attention.shared import num_splits
from quire.kernels.decode import cpp_decode
from quire.kernels.experts import reference as experts_reference
from quire.kernels.experts import torch_experts
from quire.kernels.layers import cpp_layers
from quire.kernels.lookup import reference as lookup_reference
from quire.kernels.matmul import cpp_matmul, cpp_panels
from quire.kernels.matmul import reference as matmul_reference
from quire.kernels.norm import cpp_norm
from quire.kernels.norm import reference as norm_reference
from quire.kernels.qkv import cpp_qkv
from quire.kernels.qkv import reference as qkv_reference
from quire.kernels.sample import cpp_sample, torch_sample
from quire.kernels.sample import reference as sample_reference
from quire.kernels.stage import reference as stage_reference
from quire.kernels.table import AttentionByParts, Ops
from quire.platform.caps import DeviceCaps
from quire.platform.native import Library, open_library

if TYPE_CHECKING:
    from quire.kernels.compiling import Compiler

logger = logging.getLogger(__name__)


def select_ops(caps: DeviceCaps) -> Ops:
    """The ops for a device; `Ops.explain()` says what was chosen and why."""
    if caps.kind == "cpu":
        library, missing = open_library()
        if library is not None:
            return cpp_ops(library, f"{library.isa} on {caps.name}")
        _announce(f"no C++ kernels: {missing}; running on torch alone, slower")
        return torch_ops(f"no C++ kernels: {missing}")
    if caps.triton:
        ops = triton_ops(caps.num_cores, f"Triton runs on {caps.name}")
        return with_flash_attention(ops) if caps.compute_capability == (9, 0) else ops
    missing = f"no fast kernels for {caps.name}: {caps.triton_missing}"
    _announce(f"{missing}; running the plain-torch references, many times slower")
    return reference_ops(missing)


def open_compiler(caps: DeviceCaps) -> "Compiler | None":
    """Compiles a GPU's kernels in threads; None where there are none to compile."""
    if not caps.triton:
        return None
    from quire.kernels.compiling import Compiler

    return Compiler(caps)


@functools.cache
def _announce(message: str) -> None:
    """Say it once in a process, however many engines it holds."""
    logger.warning(message)


def reference_ops(reason: str) -> Ops:
    """Every op by its plain-torch reference, on any device torch has."""
    others = ("reasons", "layers", "decode", "by_parts", "held")
    names = (field for field in Ops.__dataclass_fields__ if field not in others)
    return Ops(
        rms_norm=norm_reference.rms_norm,
        add_rms_norm=norm_reference.add_rms_norm,
        prepare_qkv=qkv_reference.prepare_qkv,
        attention=attention_reference.attention,
        linear=matmul_reference.linear,
        lookup=lookup_reference.lookup,
        gated_act=activation_reference.gated_act,
        experts=experts_reference.experts,
        sample=sample_reference.sample,
        stage=stage_reference.stage,
        append=stage_reference.append,
        reasons=dict.fromkeys(names, f"reference: {reason}"),
    )


def torch_ops(reason: str) -> Ops:
    """Torch's own fused operations where the reference would be slow."""
    plain = reference_ops(f"vectorised as it stands; {reason}")
    reasons = {
        "attention": f"torch: gathered pages through torch's fused attention; {reason}",
        "linear": f"torch: its own matmul, on weights dequantized for it; {reason}",
        "experts": f"torch: one matmul per expert in use; {reason}",
        "sample": f"torch: sorts and draws noise only where a row asks for it; {reason}",
    }
    return replace(
        plain,
        attention=torch_attention.attention,
        experts=torch_experts.experts,
        sample=torch_sample.sample,
        reasons=plain.reasons | reasons,
    )


def cpp_ops(library: Library, reason: str) -> Ops:
    """The C++ kernels for what they cover, on a CPU; torch for the rest."""
    fast = torch_ops(f"no C++ kernel; {reason}")
    rms_norm, add_rms_norm = cpp_norm.norms_of(library)
    reasons = {
        "rms_norm": f"C++: one pass over a row, bf16 and fp32; {reason}",
        "add_rms_norm": f"C++: addition and norm in one pass, bf16 and fp32; {reason}",
        "prepare_qkv": f"C++: norm, rotation and storing in one pass, bf16 and fp32; {reason}",
        "attention": f"C++: online softmax over blocks of pages, bf16 and fp32; {reason}",
        "linear": f"C++: bf16, int8 and int4 weights in panels; {reason}",
        "gated_act": f"C++: one pass over gate and up, bf16 and fp32; {reason}",
        "sample": f"C++: thresholds by search instead of a sort; {reason}",
        "append": f"C++: one call; {reason}",
        "layers": f"C++: all in one call, where they are of the common kind in bf16; {reason}",
        "decode": f"C++: a whole step in one call, of what `layers` takes; {reason}",
    }
    return replace(
        fast,
        rms_norm=rms_norm,
        add_rms_norm=add_rms_norm,
        prepare_qkv=cpp_qkv.prepare_qkv_of(library),
        attention=cpp_attention.attention_of(library),
        linear=cpp_matmul.linear_of(library),
        gated_act=cpp_activation.gated_act_of(library),
        sample=cpp_sample.sample_of(library),
        append=cpp_decode.append_of(library),
        decode=cpp_decode.decode_of(library),
        layers=cpp_layers.layers_of(library),
        reasons=fast.reasons | reasons,
        held=cpp_panels.held_in_panels,
    )


def triton_ops(num_cores: int, reason: str) -> Ops:
    """Triton kernels for everything, on a device with `num_cores` multiprocessors."""
    from quire.kernels.activation import triton_activation
    from quire.kernels.attention import triton_attention
    from quire.kernels.experts import triton_experts
    from quire.kernels.lookup import triton_lookup
    from quire.kernels.matmul import triton_matmul
    from quire.kernels.norm import triton_norm
    from quire.kernels.qkv import triton_qkv
    from quire.kernels.sample import triton_sample
    from quire.kernels.stage import triton_stage

    return Ops(
        rms_norm=triton_norm.rms_norm,
        add_rms_norm=triton_norm.add_rms_norm,
        prepare_qkv=triton_qkv.prepare_qkv,
        attention=triton_attention.attention,
        linear=triton_matmul.linear,
        linear_add_norm=triton_matmul.linear_add_norm,
        lookup=triton_lookup.lookup,
        gated_act=triton_activation.gated_act,
        experts=triton_experts.experts,
        sample=triton_sample.sample,
        stage=triton_stage.stage,
        append=triton_stage.append,
        reasons={
            "rms_norm": f"triton: one pass over a row; {reason}",
            "add_rms_norm": f"triton: addition and norm in one pass; {reason}",
            "prepare_qkv": f"triton: norm, rotation and storing in one launch; {reason}",
            "attention": f"triton: one kernel for prompts, one for single queries; {reason}",
            "linear": f"triton: for the tokens of a decode step; torch beyond; {reason}",
            "linear_add_norm": f"triton: what follows a sublayer, in its last matmul; {reason}",
            "lookup": f"triton: one launch; {reason}",
            "gated_act": f"triton: one pass over gate and up; {reason}",
            "experts": f"triton: two grouped matmuls over tokens sorted by expert; {reason}",
            "sample": f"triton: thresholds by search instead of a sort; {reason}",
            "stage": f"triton: a decode step's inputs in one launch; {reason}",
            "append": f"triton: one launch; {reason}",
        },
        by_parts=AttentionByParts(
            decode=triton_attention.decode_attention,
            plan=functools.partial(plan_parts, num_cores=num_cores),
            limit=functools.partial(max_parts, num_cores=num_cores),
            splits=functools.partial(num_splits, num_cores=num_cores),
        ),
    )


def with_flash_attention(ops: Ops) -> Ops:
    """A Hopper's ops, with FlashAttention-3 where it is installed and faster."""
    from quire.kernels.attention import flash_attention

    reason, missing = ops.reasons["attention"], flash_attention.missing()
    if missing is not None:
        reason = f"{reason}; FlashAttention-3 is {missing}"
        return replace(ops, reasons=ops.reasons | {"attention": reason})
    least, longest = flash_attention.MIN_TOKENS, flash_attention.MAX_LEN
    reason = f"{reason}; FlashAttention-3 for {least} tokens and more of prompts up to {longest}"
    attention = flash_attention.attention_of(ops.attention)
    return replace(ops, attention=attention, reasons=ops.reasons | {"attention": reason})
