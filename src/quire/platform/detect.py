"""Look at the machine and describe one device as `DeviceCaps`.

The only place that asks torch what devices exist. It chooses nothing but the meaning of
"auto": the first CUDA device torch can use, else the CPU.
"""

import importlib.util
import re
import shutil
from pathlib import Path

import torch

from quire.core.env import c_compiler
from quire.core.errors import ConfigError
from quire.platform.caps import DeviceCaps
from quire.platform.host import host_facts
from quire.platform.native import open_library

_DEVICE = re.compile(r"cuda(?::(\d+))?")
# Below this, Triton's compiler has no code generator; https://github.com/triton-lang/triton.
_TRITON_MIN_CAPABILITY = (7, 5)
_BF16_MIN_CAPABILITY = (8, 0)


def detect(device: str = "auto") -> DeviceCaps:
    """The device named by "auto", "cpu", "cuda" or "cuda:N", as it is now.

    Raises:
        ConfigError: no such device, saying why: no driver, a CPU-only torch, or no device N.
    """
    if device == "auto":
        return _cuda(0) if torch.cuda.is_available() else _cpu()
    if device == "cpu":
        return _cpu()
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    reason = cuda_missing()
    if reason:
        raise ConfigError(f"device={device!r} cannot be used: {reason}; or use device='cpu'")
    index = int(match.group(1) or 0)
    count = torch.cuda.device_count()
    if index >= count:
        raise ConfigError(
            f"device={device!r} does not exist: torch sees {count} CUDA device"
            f"{'s' if count != 1 else ''}, use cuda:N with N in [0, {count})"
        )
    return _cuda(index)


def cuda_missing() -> str | None:
    """Why no CUDA device can be used and what would change it; None if one can."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a CPU-only build; install a CUDA build of torch"
    if not has_nvidia_driver():
        return "there is no NVIDIA driver on this machine (no /proc/driver/nvidia)"
    if torch.cuda.device_count() == 0:
        return "torch sees no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    return (
        f"torch {torch.__version__} could not start CUDA; the driver may be older than "
        f"CUDA {torch.version.cuda} needs"
    )


def has_nvidia_driver() -> bool:
    """Whether the kernel has an NVIDIA driver, whatever torch can do with it."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


def triton_missing(capability: tuple[int, int]) -> str | None:
    """Why Triton kernels cannot be built for a GPU of this compute capability, or None."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if capability < _TRITON_MIN_CAPABILITY:
        major, minor = capability
        return f"Triton needs compute capability 7.5, this GPU has {major}.{minor}"
    # Triton compiles a small launcher for each kernel with the C compiler it finds this way.
    named = c_compiler()
    if not any(shutil.which(name) for name in ([named] if named else ["gcc", "clang"])):
        return f"there is no C compiler ({named or 'gcc or clang'}) on this machine"
    return None


def _cpu() -> DeviceCaps:
    host = host_facts()
    library, missing = open_library()
    return DeviceCaps(
        kind="cpu",
        index=0,
        name=host.cpu_model,
        total_memory=host.total_memory,
        free_memory=host.free_memory,
        num_cores=host.num_cores,
        native_bf16=host.native_bf16,
        triton_missing="Triton kernels run on GPUs",
        isa="" if library is None else library.isa,
        isa_missing=missing,
    )


def _cuda(index: int) -> DeviceCaps:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    capability = (properties.major, properties.minor)
    missing = triton_missing(capability)
    return DeviceCaps(
        kind="cuda",
        index=index,
        name=properties.name,
        total_memory=total,
        free_memory=free,
        num_cores=properties.multi_processor_count,
        compute_capability=capability,
        native_bf16=capability >= _BF16_MIN_CAPABILITY,
        triton=missing is None,
        triton_missing=missing or "",
    )
