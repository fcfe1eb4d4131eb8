"""Every file of examples/, run as a user runs it, against the model in the box."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from served import ENVIRONMENT, Served
from tiny_models import randomize

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KEY = "sk-example"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served("--api-key", KEY, "--kv-cache-memory-bytes", "32MiB") as served:
        yield served


def run_example(*command: str) -> str:
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    names = [path.name for path in EXAMPLES.iterdir() if path.is_file()]
    assert [name for name in names if f'"{name}"' not in source] == []


def test_curl_models_and_chat(server: Served) -> None:
    script = str(EXAMPLES / "curl_models_and_chat.sh")
    shown = run_example("sh", script, server.address, KEY)
    assert '"object":"list"' in shown
    assert "capital of South Korea is Seoul" in shown
    assert '"object":"chat.completion.chunk"' in shown
    assert shown.rstrip().endswith("data: [DONE]")
    done = subprocess.run(
        ["sh", script, server.address, "wrong"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Unauthorized" in done.stdout


def test_openai_completions(server: Served) -> None:
    script = str(EXAMPLES / "openai_completions.py")
    shown = run_example(sys.executable, script, f"{server.address}/v1", KEY)
    assert "Completion:  Paris" in shown
    assert len(re.findall(r"^[0-3]: '", shown, re.MULTILINE)) == 4
    assert re.search(r"Streamed: .*\w", shown)


def test_openai_chat(server: Served) -> None:
    script = str(EXAMPLES / "openai_chat.py")
    shown = run_example(sys.executable, script, f"{server.address}/v1", KEY)
    assert re.search(r"Answer: .*Seoul", shown)
    assert re.search(r"Streamed: .*Seoul.*\(\d+ tokens\)", shown)
    assert "Tool: get_weather with {'city': 'Seoul'}" in shown
    assert re.search(r"JSON: \{'name': '.*'\}", shown)


@pytest.mark.parametrize("name", ["offline_chat.py", "offline_generate.py"])
def test_offline(name: str) -> None:
    shown = run_example(sys.executable, str(EXAMPLES / name))
    assert len(re.findall("^Prompt: ", shown, re.MULTILINE)) >= 4


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OPT with random weights, and a tokenizer trained here that has no chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Hello, how are you? <|im_start|>user <|im_end|>"] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=320,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        word_embed_proj_dim=32,
        eos_token_id=0,
        bos_token_id=0,
    )
    model = OPTForCausalLM(config)
    randomize(model, 0)
    model.save_pretrained(folder)
    return folder


def test_a_base_model_without_a_template(base_model: Path) -> None:
    with Served(str(base_model), "--kv-cache-memory-bytes", "8MiB") as served:
        refused = httpx.post(f"{served.address}/v1/chat/completions", json=HELLO, timeout=60)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert "--chat-template" in error["message"]
        assert "\n" not in error["message"]
        plain = {"prompt": "Hello", "max_tokens": 4}
        answer = httpx.post(f"{served.address}/v1/completions", json=plain, timeout=60)
        assert answer.status_code == 200


def test_chatml_template(base_model: Path) -> None:
    template = str(EXAMPLES / "chatml.jinja")
    arguments = (str(base_model), "--chat-template", template, "--kv-cache-memory-bytes", "8MiB")
    with Served(*arguments) as served:
        answer = httpx.post(f"{served.address}/v1/chat/completions", json=HELLO, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] <= 4
        seen = httpx.post(f"{served.address}/tokenize", json=HELLO, timeout=60).json()["tokens"]
        text = httpx.post(f"{served.address}/detokenize", json={"tokens": seen}, timeout=60)
        assert text.json()["prompt"] == (
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
        )
