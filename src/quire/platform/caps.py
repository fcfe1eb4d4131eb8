"""DeviceCaps: the device as plain data, so that policy code needs no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DeviceCaps:
    """One device.

    `total_memory` and `free_memory` are bytes at the time of the look (for a CPU: what this
    process may use under its cgroup). `compute_capability` is (9, 0) for a Hopper GPU.
    """

    kind: Literal["cpu", "cuda"]
    index: int
    name: str
    total_memory: int
    free_memory: int
    num_cores: int  # CPU cores this process may use, or multiprocessors
    compute_capability: tuple[int, int] | None = None
    native_bf16: bool = True
    triton: bool = False  # Triton is importable and can build kernels for this device
    triton_missing: str = ""  # why not, if not
    isa: str = ""  # the instruction set that the C++ kernels use on this CPU
    isa_missing: str = ""  # why there are none, if so

    @property
    def torch_device(self) -> str:
        """The string torch takes."""
        return f"cuda:{self.index}" if self.kind == "cuda" else "cpu"
