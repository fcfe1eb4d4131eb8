"""Which implementation a device gets, and that it says why."""

import logging
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from quire.kernels import select
from quire.kernels.select import select_ops
from quire.kernels.table import Ops
from quire.platform.caps import DeviceCaps
from quire.platform.native import open_library


def caps(kind: str, triton: bool) -> DeviceCaps:
    return DeviceCaps(
        kind=kind,  # type: ignore[arg-type]
        index=0,
        name=f"test {kind}",
        total_memory=1 << 30,
        free_memory=1 << 30,
        num_cores=8,
        triton=triton,
    )


@pytest.mark.parametrize("triton", [False, True])
def test_choice_on_a_cpu(triton: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if open_library()[0] is not None:
        assert select_ops(caps("cpu", triton)).reasons["attention"].startswith("C++: ")
    monkeypatch.setattr(select, "open_library", lambda: (None, "the reason why"))
    reason = select_ops(caps("cpu", triton)).reasons["attention"]
    assert reason.startswith("torch: ")
    assert "the reason why" in reason


def test_the_reference_where_there_is_nothing_else() -> None:
    device = replace(caps("cuda", False), triton_missing="there is no C compiler")
    reason = select_ops(device).reasons["attention"]
    assert reason.startswith("reference: ")
    assert "test cuda: there is no C compiler" in reason


def test_triton_on_cuda() -> None:
    pytest.importorskip("triton", reason="Triton is optional")
    ops = select_ops(caps("cuda", True))
    assert all(reason.startswith("triton: ") for reason in ops.reasons.values())


def test_every_op_has_a_reason() -> None:
    others = ("reasons", "by_parts", "held")
    for kind in ("cpu", "cuda"):
        ops = select_ops(caps(kind, False))
        chosen = [field.name for field in fields(Ops) if field.name not in others]
        missing = {name for name in ("layers", "decode") if getattr(ops, name) is None}
        names = [name for name in chosen if name not in missing]
        assert list(ops.reasons) == names
        assert len(ops.explain().splitlines()) == len(names)


def test_falling_back_is_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    device = DeviceCaps("cuda", 0, "a device announced once", 1, 1, 1)
    with caplog.at_level(logging.WARNING):
        select_ops(device)
        select_ops(device)
    assert len([r for r in caplog.records if "a device announced once" in r.message]) == 1


def test_a_cpu_does_not_import_triton() -> None:
    code = (
        "import sys; from quire.kernels.select import select_ops; "
        "from quire.platform.caps import DeviceCaps; "
        "select_ops(DeviceCaps('cpu', 0, 'x', 1, 1, 1)); print('triton' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
