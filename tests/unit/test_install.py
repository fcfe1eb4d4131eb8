"""tools/install.py: which build of torch is chosen, from what directories and indexes offer."""

import http.server
import importlib.util
import platform
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
SYSTEM = f"manylinux_2_28_{platform.machine()}"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPU wheels are chosen on Linux")


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(version: str, tag: str = TAG, abi: str | None = None, system: str = SYSTEM) -> str:
    return f"torch-{version}-{tag}-{abi or tag}-{system}.whl"


def best(install: ModuleType, *names: str, cpu_only: bool = True) -> str | None:
    return install.best_wheel(names, Path(sys.executable), cpu_only=cpu_only)


def test_newest_fitting_cpu_wheel_wins(install: ModuleType) -> None:
    names = [wheel("2.11.0+cpu"), wheel("2.13.1+cpu"), wheel("2.13.0+cpu"), wheel("2.14.0+cu130")]
    assert best(install, *names) == "2.13.1+cpu"
    assert best(install, *names, cpu_only=False) == "2.14.0+cu130"


@pytest.mark.parametrize(
    "name",
    [
        wheel("2.13.0+cpu", tag="cp39"),
        wheel("2.13.0+cpu", abi=TAG + "t"),
        wheel("2.13.0+cpu", system="win_amd64"),
        wheel("2.13.0+cpu", system="manylinux_2_28_s390x"),
        wheel("2.1.0+cpu"),  # older than pyproject.toml allows
        wheel("2.13.0"),  # carries CUDA
        wheel("2.14.0.dev20261101+cpu"),
        "torchvision-0.30.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
    ],
)
def test_wheels_that_do_not_fit(install: ModuleType, name: str) -> None:
    assert best(install, name) is None


def test_directory_of_wheels(install: ModuleType, tmp_path: Path) -> None:
    (tmp_path / wheel("2.13.0+cpu")).touch()
    (tmp_path / "numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert install.wheels_at(str(tmp_path)) == [wheel("2.13.0+cpu")]
    assert install.wheels_at(tmp_path.as_uri()) == [wheel("2.13.0+cpu")]
    assert install.wheels_at(str(tmp_path / "missing")) == []


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package index on this machine, with one escaped link as PyTorch's own writes it."""
    folder = tmp_path / "torch"
    folder.mkdir()
    link = wheel("2.13.0+cpu").replace("+", "%2B")
    (folder / "index.html").write_text(f'<a href="/whl/{link}#sha256=00">torch</a>')

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(tmp_path), **kwargs)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_index_over_http(install: ModuleType, index: str) -> None:
    assert install.wheels_at(index) == [wheel("2.13.0+cpu")]


def test_unreachable_index_is_empty(install: ModuleType) -> None:
    assert install.wheels_at("http://127.0.0.1:9/whl") == []


def test_find_links_come_from_pip(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path}/a {tmp_path}/b")
    places = install.find_links(Path(sys.executable))
    assert places[:2] == [f"{tmp_path}/a", f"{tmp_path}/b"]


def test_minimum_is_pyprojects(install: ModuleType) -> None:
    assert (
        f"torch>={install.dotted(install.minimum_torch())}" in (ROOT / "pyproject.toml").read_text()
    )


def test_wrong_index_is_one_clear_line(
    install: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("QUIRE_TORCH_INDEX", "http://127.0.0.1:9/whl")
    with pytest.raises(SystemExit):
        install.install_torch(Path(sys.executable))
    error = capsys.readouterr().err
    assert error.startswith("error: QUIRE_TORCH_INDEX=http://127.0.0.1:9/whl holds no torch")
    assert error.count("\n") == 1
