"""The host as plain facts: memory and cores this process may use, and the CPU's features.

Reads /proc and /sys only; imports no torch. A container's limits (cgroup v1 and v2) count, not
what the machine has. On systems without these files the answers come from psutil and `os`.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# cgroup v1 writes "no limit" as the largest multiple of the page size in 63 bits.
_V1_UNLIMITED = 1 << 60
# The features kernels are chosen by, in the kernel's spelling.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
_ARM_FLAGS = ("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this process may use of the host. Bytes; `flags` are those Quire knows of."""

    cpu_model: str
    num_cores: int
    total_memory: int
    free_memory: int
    flags: tuple[str, ...]

    @property
    def native_bf16(self) -> bool:
        """The CPU multiplies bfloat16 without converting it to float32 first."""
        return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(self.flags))


def host_facts(root: Path = Path("/")) -> HostFacts:
    """Look at the host now. `root` stands in for the file system's root in tests."""
    model, flags = _cpu(root)
    total, free = host_memory(root)
    return HostFacts(model, num_cores(root), total, free, flags)


def host_memory(root: Path = Path("/")) -> tuple[int, int]:
    """(total, free) bytes this process may use: the machine's, cut to its cgroups' limits.

    Page cache that can be dropped counts as free, in the machine and in the cgroup alike.
    """
    total, free = _machine_memory(root)
    for directory, unified in _cgroups(root, "memory"):
        limit_file, used_file, cache_key = (
            ("memory.max", "memory.current", "inactive_file")
            if unified
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        limit = _integer(directory / limit_file)
        if limit is None or limit >= _V1_UNLIMITED:
            continue
        used = _integer(directory / used_file) or 0
        droppable = _table(directory / "memory.stat").get(cache_key, 0)
        total = min(total, limit)
        free = min(free, max(0, limit - max(0, used - droppable)))
    return total, free


def num_cores(root: Path = Path("/")) -> int:
    """Cores this process may run on: its affinity mask, cut to its cgroups' CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for directory, unified in _cgroups(root, "cpu"):
        quota = _cpu_quota(directory, unified)
        if quota is not None:
            # A fraction of a core is still worth a thread.
            cores = min(cores, max(1, -int(-quota // 1)))
    return max(1, cores)


def _cpu_quota(directory: Path, unified: bool) -> float | None:
    """Cores' worth of time a cgroup grants, None for no limit."""
    if unified:
        words = _text(directory / "cpu.max").split()
        if len(words) != 2 or words[0] == "max":
            return None
        return int(words[0]) / int(words[1])
    quota = _integer(directory / "cpu.cfs_quota_us")
    period = _integer(directory / "cpu.cfs_period_us")
    if quota is None or quota <= 0 or not period:
        return None
    return quota / period


def _cgroups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Directories whose limits of `controller` bind this process, with whether they are v2.

    A limit anywhere up the tree binds, so all ancestors are listed. Inside a container the
    path in /proc/self/cgroup may be the host's and not exist; the mount point itself is then
    the container's own group and comes last.
    """
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        _, controllers, path = parts
        if controllers == "":
            base, unified = mount, True
        elif controller in controllers.split(","):
            base, unified = mount / controller, False
        else:
            continue
        directory = base / path.lstrip("/")
        while directory != base:
            yield directory, unified
            directory = directory.parent
        yield base, unified


def _machine_memory(root: Path) -> tuple[int, int]:
    table = _table(root / "proc/meminfo")
    if "MemTotal:" in table and "MemAvailable:" in table:
        return table["MemTotal:"] * 1024, table["MemAvailable:"] * 1024
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _cpu(root: Path) -> tuple[str, tuple[str, ...]]:
    """Model name and the known feature flags of the first CPU."""
    model, present = "", set[str]()
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        key = key.strip()
        if key == "model name" and not model:
            model = value.strip()
        elif key in ("flags", "Features"):
            present = set(value.split())
            break
    known = (*_FLAGS, *_ARM_FLAGS)
    return model or platform.processor() or platform.machine(), tuple(
        flag for flag in known if flag in present
    )


def _table(path: Path) -> dict[str, int]:
    """Lines of "name number …"."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}


def _integer(path: Path) -> int | None:
    text = _text(path).strip()
    try:
        return int(text)
    except ValueError:  # "max", or no such file
        return None


def _text(path: Path) -> str:
    """A file's text; empty where it does not exist or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
