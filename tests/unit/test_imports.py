"""The house rules a parser can check: import direction, torch-free folders, where device code
and the environment may be touched. Every import counts, in functions and TYPE_CHECKING too."""

import ast
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "quire"

# Place (folder or module, longest match wins) -> rank. A file imports its own place and
# places of strictly lower rank. docs/architecture.md shows the same table.
RANKS = {
    "quire.core": 0,
    "quire.platform": 1,
    "quire.text": 1,
    "quire.kv": 1,
    "quire.structured": 1,
    "quire.models.recipe": 1,
    "quire.quant": 1,
    "quire.models.families": 1,
    "quire.scheduler": 2,
    "quire.planner": 2,
    "quire.kernels": 2,
    "quire.layers": 3,
    "quire.sampling": 3,
    "quire.models": 4,
    "quire.weights": 5,
    "quire.runner": 6,
    "quire.engine": 8,
    "quire.beam_search": 8,
    "quire.llm_pooling": 9,
    "quire.llm_progress": 9,
    "quire.llm": 9,
    "quire.metrics": 9,
    "quire.server": 10,
    "quire.cli": 11,
    "quire.entrypoints.openai.api_server": 12,
}
# Places of one rank that may still import each other, in this direction only.
SAME_RANK = {
    ("quire.models.families", "quire.models.recipe"),
    ("quire.llm", "quire.llm_pooling"),
    ("quire.llm", "quire.llm_progress"),
}

# Never import torch, wherever in the file.
TORCH_FREE = (
    "quire.core",
    "quire.kv",
    "quire.structured",
    "quire.metrics",
    "quire.server",
    "quire.scheduler",
    "quire.planner",
    "quire.models.recipe",
    "quire.models.families",
    "quire.platform.caps",
    "quire.platform.host",
    "quire.cli.main",
)
# May import torch inside functions, so that importing the module stays cheap.
TORCH_LAZY = ("quire.text", "quire.cli", "quire.engine")

# The only places that name the device's own library or its generations.
DEVICE_CODE = (
    "quire.platform",
    "quire.kernels",
    "quire.runner.graph_pool",
    "quire.runner.graphs",
    "quire.runner.prompt_graphs",
)
ENVIRONMENT = ("quire.core.env",)
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
DEVICE_NAMES = ("torch.cuda", "torch.version", "triton")
HEAVY = ("torch", "transformers", "tokenizers", "numpy", "triton", "huggingface_hub", "safetensors")
HELP = """
import contextlib, io, sys
from quire.cli.main import main
sys.argv = ["quire", "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""
GUIDE_LINES = 500


@dataclass(frozen=True)
class Import:
    """`lazy`: inside a function. `typing_only`: under `if TYPE_CHECKING`."""

    target: str
    line: int
    lazy: bool
    typing_only: bool


def module_name(path: Path) -> str:
    parts = ("quire", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(parsed: ast.Module) -> list[Import]:
    """Every import statement, and every `import_module` of a constant name."""
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool, typing_only: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(a.name, node.lineno, lazy, typing_only) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                # Of Quire the module counts; elsewhere `from torch import cuda` is torch.cuda.
                ours = inner.startswith("quire.") and inner not in MODULES
                target = str(node.module) if ours else inner
                found.append(Import(target, node.lineno, lazy, typing_only))
        elif isinstance(node, ast.Call) and name_of(node.func).endswith("import_module"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    found.append(Import(str(argument.value), node.lineno, lazy, typing_only))
        deferred = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for field, value in ast.iter_fields(node):
            under = typing_only or (
                isinstance(node, ast.If)
                and field == "body"
                and name_of(node.test).endswith("TYPE_CHECKING")
            )
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, deferred, under)

    visit(parsed, False, False)
    return found


def name_of(node: ast.AST) -> str:
    """A dotted name as text: `torch.cuda.Event`; empty if the node is something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = name_of(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def place_of(module: str) -> str:
    places = [place for place in RANKS if inside(module, (place,))]
    return max(places, key=len, default="")


def allowed(importer: str, imported: str) -> bool:
    here, there = place_of(importer), place_of(imported)
    if here == there or (here, there) in SAME_RANK:
        return True
    return RANKS[there] < RANKS[here]


def eager_closure(module: str) -> set[str]:
    """Everything that importing `module` imports of Quire, and the first outside names."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in MODULES:
            todo += [i.target for i in imports(tree(name)) if not i.lazy and not i.typing_only]
            todo += [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
    return seen


def torch_names(found: Import) -> bool:
    return inside(found.target, ("torch", "transformers", "tokenizers"))


def walk(module: str) -> Iterator[tuple[str, ast.AST, str]]:
    """(where, node, its dotted name if it is one) of every node of a module."""
    for node in ast.walk(tree(module)):
        yield f"{module}:{getattr(node, 'lineno', 0)}", node, name_of(node)


def test_every_file_has_a_rank() -> None:
    assert [m for m in MODULES if m != "quire" and not place_of(m)] == []
    assert [place for place in RANKS if place not in MODULES] == [], "gone; take it out of RANKS"


def test_imports_go_down() -> None:
    """A file imports its own folder and strictly lower ranks."""
    assert [
        f"{module}:{found.line} (rank {RANKS[place_of(module)]}) imports {found.target}"
        for module in MODULES
        if module != "quire"
        for found in imports(tree(module))
        # The package itself holds the version and has no rank.
        if inside(found.target, ("quire",)) and found.target != "quire"
        if not allowed(module, found.target)
    ] == []


def test_the_package_imports_nothing_of_its_own_at_once() -> None:
    found = imports(tree("quire"))
    assert [i for i in found if inside(i.target, ("quire",)) and not i.lazy | i.typing_only] == []


def test_torch_free_folders() -> None:
    assert [
        f"{module}:{found.line} imports {found.target}"
        for module in MODULES
        if inside(module, TORCH_FREE)
        for found in imports(tree(module))
        if torch_names(found)
    ] == []


def test_torch_only_when_needed() -> None:
    assert [
        f"{module}:{found.line} imports {found.target} at module level"
        for module in MODULES
        if inside(module, TORCH_LAZY)
        for found in imports(tree(module))
        if torch_names(found) and not found.lazy and not found.typing_only
    ] == []


def test_torch_free_through_what_they_import() -> None:
    assert [
        f"importing {module} imports {name}"
        for module in MODULES
        if inside(module, (*TORCH_FREE, "quire.text"))
        for name in sorted(eager_closure(module))
        if inside(name, ("torch", "transformers"))
    ] == []


def test_kernels_compile_without_torch() -> None:
    """A process that compiles them (`kernels.compile_process`) does not wait for its import."""

    def has_kernels(module: str) -> bool:
        functions = [n for n in ast.walk(tree(module)) if isinstance(n, ast.FunctionDef)]
        decorators = [d for function in functions for d in function.decorator_list]
        names = [name_of(d.func if isinstance(d, ast.Call) else d) for d in decorators]
        return bool({"triton.jit", "gluon.jit"} & set(names))

    modules = {m for m in MODULES if has_kernels(m)} | {"quire.kernels.compile_process"}
    modules -= {"quire.kernels.compiling", "quire.kernels.experts.triton_experts"}
    assert len(modules) > 20
    assert [m for m in sorted(modules) if "torch" in eager_closure(m)] == []


def test_device_code_stays_in_its_places() -> None:
    elsewhere = [m for m in MODULES if not inside(m, DEVICE_CODE)]
    assert [
        f"{module}:{found.line} imports {found.target}"
        for module in elsewhere
        for found in imports(tree(module))
        if inside(found.target, DEVICE_NAMES)
    ] + [
        f"{where} uses {name}"
        for module in elsewhere
        for where, _, name in walk(module)
        if inside(name, DEVICE_NAMES)
    ] == []


def test_environment_is_read_in_one_place() -> None:
    assert [
        f"{where} uses {name}"
        for module in MODULES
        if not inside(module, ENVIRONMENT)
        for where, _, name in walk(module)
        if name in ("os.environ", "os.getenv", "os.putenv", "environ", "getenv")
    ] == []


def test_nothing_executes_what_it_reads() -> None:
    """No pickle; torch.load only with weights_only=True; no eval or exec."""
    assert [
        f"{module}:{found.line} imports {found.target}"
        for module in MODULES
        for found in imports(tree(module))
        if found.target.split(".")[0] in FORBIDDEN_MODULES
        and found.target != "pickle.UnpicklingError"  # what torch's safe reader raises
    ] + [
        f"{where} calls {name_of(node.func)}"
        for module in MODULES
        for where, node, _ in walk(module)
        if isinstance(node, ast.Call)
        if name_of(node.func) in ("eval", "exec")
        or (name_of(node.func) == "torch.load" and not weights_only(node))
    ] == []


def weights_only(call: ast.Call) -> bool:
    return any(
        k.arg == "weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in call.keywords
    )


def test_house_rules_of_form() -> None:
    """A docstring in every module, no bare except, no module-level mutable state."""
    assert [m for m in MODULES if not ast.get_docstring(tree(m))] == []
    assert [
        f"{where} {type(node).__name__}"
        for module in MODULES
        for where, node, name in walk(module)
        if (isinstance(node, ast.ExceptHandler) and node.type is None)
        or isinstance(node, ast.Global)
        or name == "object.__setattr__"
    ] == []


def test_long_files_are_reported() -> None:
    """Guidance, not a rule: the list goes into the report as a warning."""
    lengths = {m: len(p.read_text(encoding="utf-8").splitlines()) for m, p in MODULES.items()}
    long = {module: lines for module, lines in lengths.items() if lines > GUIDE_LINES}
    if long:
        warnings.warn(f"files over {GUIDE_LINES} lines: {long}", stacklevel=1)


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("quire.kv.pages", "quire.core.kv_spec", True),
        ("quire.kv.pages", "quire.kv.hashing", True),
        ("quire.kv.pages", "quire.platform.caps", False),  # the same rank, another folder
        ("quire.kv.pages", "quire.scheduler", False),
        ("quire.models.families.llama", "quire.models.recipe", True),
        ("quire.models.recipe", "quire.models.families.llama", False),
        ("quire.models.recipe", "quire.models.decoder", False),
        ("quire.models.decoder", "quire.models.recipe", True),
    ],
)
def test_the_rank_rule_itself(importer: str, imported: str, expected: bool) -> None:
    assert allowed(importer, imported) is expected


def test_hidden_imports_are_seen() -> None:
    code = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from quire.llm import LLM
def f():
    if True:
        import torch.cuda
    from quire.core import errors
    from quire.core.errors import ConfigError
    from torch import version
    import_module("quire.engine")
"""
    found = {(i.target, i.lazy, i.typing_only) for i in imports(ast.parse(code))}
    assert found == {
        ("typing.TYPE_CHECKING", False, False),
        ("quire.llm", False, True),
        ("torch.cuda", True, False),
        ("quire.core.errors", True, False),
        ("torch.version", True, False),
        ("quire.engine", True, False),
    }


@pytest.mark.parametrize(
    "code",
    [
        "import quire",
        "from quire import SamplingParams, RequestOutput",
        "import quire.scheduler, quire.kv, quire.planner.memory, quire.planner.resolve",
        HELP,
    ],
)
def test_light_imports(code: str) -> None:
    """In a process of its own, none of the heavy packages is loaded."""
    check = f"import sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
