"""The command line: help, errors in one line, and the commands that need no model."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from quire import __version__
from quire.cli.main import _COMMANDS, run
from quire.cli.options import ENGINE_OPTIONS, SAMPLING_OPTIONS
from quire.cli.values import quantity, read_value
from quire.core.config import ENGINE_KEYWORDS
from quire.core.errors import ConfigError
from quire.core.option import Option
from quire.core.sampling_params import SamplingParams

Captured = pytest.CaptureFixture[str]


def test_help_lists_every_command(capsys: Captured) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_, line) in _COMMANDS.items():
        assert f"  {name}" in text
        assert line in text


@pytest.mark.parametrize("command", _COMMANDS)
def test_each_command_has_help_with_an_example(capsys: Captured, command: str) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.count(f"quire {command}") >= 2
    assert _COMMANDS[command][1].rstrip(".").split(",")[0].split()[0] in text


def test_version(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"quire {__version__}\n"


def test_help_imports_no_heavy_package() -> None:
    program = (
        "import sys; from quire.cli.main import run;"
        "status = [run(['--help']), run(['chat', '--help']), run(['complete', '--help'])];"
        "heavy = {'torch', 'transformers', 'tqdm', 'numpy', 'jinja2'} & set(sys.modules);"
        "sys.exit(f'{status} {heavy}' if heavy or any(status) else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["chta"], 2, "no command 'chta'; did you mean 'chat'? (see `quire --help`)"),
        (
            ["chat", "--temprature", "0"],
            2,
            "did you mean '--temperature'? (see `quire chat --help`)",
        ),
        (["chat", "--dtype", "int3"], 2, "--dtype must be one of auto, half"),
        (["chat", "a", "b"], 2, "unexpected extra argument"),
        (["complete", "/no/such/model", "--prompt", "x"], 1, "/no/such/model"),
        (
            ["complete", "-p", "x", "--temperature", "-1"],
            1,
            "temperature must be at least 0, got -1",
        ),
        (
            ["complete", "-p", "x", "--max-model-len", "0"],
            2,
            "--max-model-len must be a whole number",
        ),
        (["complete", "-p", "x", "--block-size", "7"], 1, "power of two"),
        (["complete", "-p", "x", "--tensor-parallel-size", "2"], 1, "not supported yet"),
        (
            ["complete", "-p", "x", "--kv-cache-memory-bytes", "lots"],
            2,
            "of at least 1 such as 2GiB",
        ),
        (["show-model", "/no/such/model"], 1, "/no/such/model"),
    ],
)
def test_errors_are_one_line(
    capsys: Captured, arguments: list[str], status: int, message: str
) -> None:
    assert run(arguments) == status
    error = capsys.readouterr().err
    assert error.startswith("quire: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_debug_shows_the_traceback(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_LOG_LEVEL", "debug")
    assert run(["show-model", "/no/such/model"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("QUIRE_LOG_LEVEL", "loud")
    assert run(["env"]) == 1
    assert "QUIRE_LOG_LEVEL must be one of" in capsys.readouterr().err


def test_every_engine_option_has_a_flag() -> None:
    fields_with_flags = {option.field for option in ENGINE_OPTIONS}
    every_field = {field for _, field in ENGINE_KEYWORDS.values()}
    assert fields_with_flags == every_field - {"skip_tokenizer_init"}
    assert {o.name for o in SAMPLING_OPTIONS} <= {field.name for field in fields(SamplingParams)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1.5k", 1500),
        ("8K", 8192),
        ("2GiB", 2 << 30),
        ("2gib", 2 << 30),
        ("3 mb", 3_000_000),
        ("1G", 1 << 30),
        ("1g", 10**9),
        ("-1", -1),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "lots", "1.5", "1.0001k", "5x", "k", "1e9"])
def test_what_is_no_size(text: str) -> None:
    wanted = r"QUIRE_X must be a whole number such as 2GiB, got "
    with pytest.raises(ConfigError, match=wanted):
        read_value(Option("x", "x", "", "size"), text, "QUIRE_X")


def test_env(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run(["env"]) == 0
    text = capsys.readouterr().out
    for name in ("quire:", "python:", "torch:", "triton:", "CPU flags:", "cores:", "memory:"):
        assert f"\n{name}" in f"\n{text}"
    for name in ("GPU", "kernels:", "attention: ", "C compiler:"):
        assert name in text
    assert "hf_secret" not in text
    assert str(Path.home()) not in text


def test_show_model(capsys: Captured, tmp_path: Path) -> None:
    assert run(["show-model"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("LlamaForCausalLM: ")
    assert "layers 0-" in text
    config = {
        "architectures": ["StableLmForCausalLM"],
        "model_type": "stablelm",
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run(["show-model", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("StableLmForCausalLM: ")
    assert "transformers' own modules" in text
