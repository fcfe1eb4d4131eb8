"""Make a virtual environment with Quire, editable, in it. Standard library only.

    python tools/install.py VENV [--dev]

The one decision taken here is which build of torch. The plain one on the package index
carries CUDA, several gigabytes, so without an NVIDIA GPU a CPU build is looked for first: in
the wheel directories pip is configured with (`find-links`), then in the index that
QUIRE_TORCH_INDEX names, else in PyTorch's own CPU index. QUIRE_TORCH_INDEX, when set, is used
with a GPU too. Run again, it installs only what is missing.
"""

import argparse
import html
import os
import platform
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
INDEX_TIMEOUT_S = 5.0  # an unreachable index must not hold up the fall back
WHEEL = re.compile(
    r"torch-([0-9][0-9.]*(?:\+[a-z0-9.]+)?)-cp(\d+)-([a-z0-9]+)-([a-zA-Z0-9_.]+)\.whl"
)
HREF = re.compile(r"""href=["']([^"'#]+)""")

Version = tuple[int, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("venv", type=Path)
    parser.add_argument("--dev", action="store_true", help="with the tools that tests need")
    options = parser.parse_args()
    python = make_venv(options.venv)
    if installed_torch(python) is None:
        install_torch(python)
    # Nothing below may exchange the build chosen above for another.
    torch = installed_torch(python)
    constraints = options.venv / "torch.txt"
    constraints.write_text(f"torch=={torch}\n" if torch else "")
    say("Installing Quire" + (" with its development tools" if options.dev else ""))
    target = f"{ROOT}[dev]" if options.dev else str(ROOT)
    pip(python, "install", "--constraint", str(constraints), "--editable", target)
    (options.venv / ".installed").touch()
    if options.dev:
        folder = options.venv / "litellm"  # apart: it holds openai and huggingface-hub back
        if not folder.exists():
            say("Installing litellm for the tests of clients")
            pip(python, "install", "--no-compile", "--target", str(folder), "litellm>=1.80")
        (options.venv / ".installed-dev").touch()
    return 0


def make_venv(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, made if it is missing or broken."""
    python = folder / "bin" / "python"
    if not runs(python, "import sys, pip; sys.exit(sys.version_info < (3, 11))"):
        say(f"Making {folder} with Python {platform.python_version()}")
        venv.create(folder, with_pip=True, clear=True, symlinks=os.name != "nt")
    return python.absolute()


def installed_torch(python: Path) -> str | None:
    """The version of torch in the environment, None if there is none that is new enough."""
    code = "from importlib.metadata import version; print(version('torch'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    version = done.stdout.strip()
    return version if done.returncode == 0 and release(version) >= minimum_torch() else None


def install_torch(python: Path) -> None:
    """Install the build of torch that suits this machine; leave plain torch to pip."""
    index = os.environ.get("QUIRE_TORCH_INDEX")
    if index:
        version = best_wheel(wheels_at(index), python, cpu_only=False)
        if version is None:
            fail(
                f"QUIRE_TORCH_INDEX={index} holds no torch >= {dotted(minimum_torch())} for this "
                "Python and system, or cannot be reached; correct it or unset it"
            )
        install_from_index(python, index, version)
        return
    if sys.platform != "linux" or has_nvidia_gpu():
        return
    say("No NVIDIA GPU found: looking for a CPU build of torch")
    for place in find_links(python):
        version = best_wheel(wheels_at(place), python, cpu_only=True)
        if version is not None:
            say(f"Installing torch {version} from {place}")
            pip(python, "install", f"torch=={version}")
            return
    version = best_wheel(wheels_at(PYTORCH_CPU_INDEX), python, cpu_only=True)
    if version is not None:
        install_from_index(python, PYTORCH_CPU_INDEX, version)
        return
    say(
        "warning: no CPU build of torch can be reached, so the build with CUDA is installed "
        "(several gigabytes); set QUIRE_TORCH_INDEX to an index with CPU builds to avoid it"
    )


def install_from_index(python: Path, index: str, version: str) -> None:
    """That exact torch from `index`; what torch itself needs comes from the usual index."""
    say(f"Installing torch {version} from {index}")
    pip(python, "install", "--no-deps", "--index-url", index, f"torch=={version}")


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver runs on this machine."""
    if Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists():
        return True
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"GPU" in done.stdout


def find_links(python: Path) -> list[str]:
    """The wheel directories and pages that pip is configured with, here or for the user."""
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    places: list[str] = []
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        if key.endswith("find-links"):
            words = value.strip("'\"").replace("\\n", " ").split()
            places += [word for word in words if word not in places]
    return places


def wheels_at(place: str) -> list[str]:
    """Names of torch's wheels in a directory, on a page of links, or in a package index."""
    url = urllib.parse.urlsplit(place)
    if url.scheme in ("", "file"):
        folder = Path(urllib.parse.unquote(url.path)).expanduser()
        if folder.is_dir():
            inner = folder / "torch"  # a package index laid out as files
            return [p.name for d in (folder, inner) if d.is_dir() for p in d.glob("torch-*.whl")]
        return names_in(folder.read_text(errors="replace")) if folder.is_file() else []
    for address in (place.rstrip("/") + "/torch/", place):
        try:
            with urllib.request.urlopen(address, timeout=INDEX_TIMEOUT_S) as response:
                names = names_in(response.read().decode(errors="replace"))
        except (OSError, ValueError):
            continue
        if names:
            return names
    return []


def names_in(page: str) -> list[str]:
    """File names that the links of an HTML page point to."""
    paths = (urllib.parse.unquote(html.unescape(link)) for link in HREF.findall(page))
    return [path.rsplit("/", 1)[-1] for path in paths]


def best_wheel(names: Iterable[str], python: Path, *, cpu_only: bool) -> str | None:
    """The newest version among wheels that fit the environment's Python and this machine."""
    code = "import sys; print(f'{sys.version_info[0]}{sys.version_info[1]}')"
    tag = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    machine = platform.machine().lower().replace("amd64", "x86_64")
    found: list[tuple[Version, str]] = []
    for name in names:
        match = WHEEL.fullmatch(name)
        if match is None:
            continue
        version, wheel_python, abi, system = match.groups()
        # Another ABI ("cp313t") is the free-threaded Python's.
        fits = wheel_python == tag.stdout.strip() and abi == f"cp{wheel_python}"
        fits = fits and system.endswith(machine)
        fits = fits and ("linux" in system) == (sys.platform == "linux")
        if fits and release(version) >= minimum_torch() and (not cpu_only or "+cpu" in version):
            found.append((release(version), version))
    return max(found)[1] if found else None


def minimum_torch() -> Version:
    """The lower bound in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [re.fullmatch(r"torch>=([0-9.]+)", need) for need in project["dependencies"]]
    return next(release(bound.group(1)) for bound in bounds if bound)


def release(version: str) -> Version:
    """The numbers of a version, without its local part: "2.13.0+cpu" -> (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def dotted(version: Version) -> str:
    return ".".join(map(str, version))


def pip(python: Path, *arguments: str) -> None:
    """Run pip; silent but for errors where nobody watches."""
    quiet = [] if sys.stdout.isatty() else ["-qq"]
    command = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", *quiet]
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode != 0:
        fail("this command failed: " + " ".join(command))


def runs(python: Path, code: str) -> bool:
    try:
        return (
            subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def fail(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
