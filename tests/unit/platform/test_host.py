"""The host's facts, read from made-up /proc and /sys trees and from the real ones."""

import os
import sys
from pathlib import Path

import pytest

from quire.platform.host import host_facts, host_memory, num_cores

GIB = 1 << 30
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(
        tmp_path,
        "proc/meminfo",
        "MemTotal:  16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n",
    )
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_no_cgroup_is_the_whole_machine(root: Path) -> None:
    assert host_memory(root) == (16 * GIB, 8 * GIB)


def test_cgroup_v2_limit_binds_and_page_cache_is_free(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/box\n")
    write(root, "sys/fs/cgroup/box/memory.max", f"{4 * GIB}\n")
    write(root, "sys/fs/cgroup/box/memory.current", f"{3 * GIB}\n")
    write(root, "sys/fs/cgroup/box/memory.stat", f"anon 5\ninactive_file {GIB}\n")
    assert host_memory(root) == (4 * GIB, 2 * GIB)


def test_a_parents_limit_binds_too(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/slice/box\n")
    write(root, "sys/fs/cgroup/slice/box/memory.max", "max\n")
    write(root, "sys/fs/cgroup/slice/memory.max", f"{2 * GIB}\n")
    write(root, "sys/fs/cgroup/slice/memory.current", "0\n")
    assert host_memory(root) == (2 * GIB, 2 * GIB)


def test_in_a_container_the_mount_is_the_group(root: Path) -> None:
    """The path named in /proc is the host's and does not exist inside."""
    write(root, "proc/self/cgroup", "0::/docker/0123\n")
    write(root, "sys/fs/cgroup/memory.max", f"{GIB}\n")
    write(root, "sys/fs/cgroup/memory.current", f"{GIB // 4}\n")
    assert host_memory(root) == (GIB, GIB - GIB // 4)


def test_cgroup_v1(root: Path) -> None:
    write(root, "proc/self/cgroup", "4:memory:/box\n1:cpu,cpuacct:/box\n")
    write(root, "sys/fs/cgroup/memory/box/memory.limit_in_bytes", f"{6 * GIB}\n")
    write(root, "sys/fs/cgroup/memory/box/memory.usage_in_bytes", f"{5 * GIB}\n")
    write(root, "sys/fs/cgroup/memory/box/memory.stat", f"total_inactive_file {GIB}\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert host_memory(root) == (6 * GIB, 2 * GIB)


def test_used_beyond_the_limit_leaves_nothing(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/\n")
    write(root, "sys/fs/cgroup/memory.max", f"{GIB}\n")
    write(root, "sys/fs/cgroup/memory.current", f"{2 * GIB}\n")
    assert host_memory(root) == (GIB, 0)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "10000000 100000"}, None),
    ],
)
def test_cpu_quota_v2(root: Path, files: dict[str, str], expected: int | None) -> None:
    write(root, "proc/self/cgroup", "0::/box\n")
    for name, text in files.items():
        write(root, f"sys/fs/cgroup/box/{name}", text)
    assert num_cores(root) == (expected or num_cores(Path("/nowhere")))


def test_cpu_quota_v1(root: Path) -> None:
    write(root, "proc/self/cgroup", "1:cpu:/box\n")
    write(root, "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "100000\n")
    write(root, "sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    assert num_cores(root) == 1
    write(root, "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "-1\n")
    assert num_cores(root) == num_cores(Path("/nowhere"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16", True),
        ("flags : fpu avx2 avx512f", False),
        ("Features : fp asimd bf16", True),
    ],
)
def test_cpu_features(root: Path, flags: str, native: bool) -> None:
    write(root, "proc/cpuinfo", f"processor : 0\nmodel name : Some CPU @ 2 GHz\n{flags}\n")
    facts = host_facts(root)
    assert facts.cpu_model == "Some CPU @ 2 GHz"
    assert facts.native_bf16 is native
    assert "fpu" not in facts.flags


@LINUX
def test_this_machine() -> None:
    facts = host_facts()
    assert 0 < facts.free_memory <= facts.total_memory
    assert 1 <= facts.num_cores <= (os.cpu_count() or 1)
    assert facts.cpu_model
