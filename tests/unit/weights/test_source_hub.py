"""Hub ids, through the real client, against a server on the loopback interface."""

import json
import socket
from pathlib import Path

CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
INDEX = json.dumps(
    {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
).encode()
SMALL = "fetch_small_files"
WEIGHTS = "fetch_weights"
REPOSITORY = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"x",
    "modeling_own.py": b"raise SystemExit",
    "model.safetensors.index.json": INDEX,
    "model-1-of-2.safetensors": b"one",
    "model-2-of-2.safetensors": b"two",
    "pytorch_model.bin": b"not wanted",
    "consolidated.00.pth": b"not wanted",
    "original/params.json": b"not wanted",
    "model.gguf": b"not wanted",
}


def names(folder: str) -> set[str]:
    root = Path(folder)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_small_files_first_then_the_weights(hub, ask, tmp_path: Path) -> None:
    hub.repositories["some/model"] = REPOSITORY
    (small,) = ask([{"function": SMALL, "name": "some/model"}], HF_ENDPOINT=hub.url)
    assert small[0] == "ok", small
    assert names(small[1]) == {
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
    }
    download_dir = str(tmp_path / "elsewhere")
    calls = [
        {"function": WEIGHTS, "name": "some/model", "download_dir": download_dir},
        {"function": WEIGHTS, "name": "some/model", "download_dir": download_dir, "code": True},
    ]
    weights, with_code = ask(calls, HF_ENDPOINT=hub.url)
    assert weights[0] == "ok", weights
    assert weights[1].startswith(download_dir)
    wanted = {"model-1-of-2.safetensors", "model-2-of-2.safetensors"}
    assert wanted < names(weights[1])
    assert "pytorch_model.bin" not in names(weights[1])
    assert Path(weights[1], "model-2-of-2.safetensors").read_bytes() == b"two"
    assert "modeling_own.py" in names(with_code[1])

    # What is cached needs no network: neither the offline switch nor a dead one.
    cached = [{"function": WEIGHTS, "name": "some/model", "download_dir": download_dir}]
    hub.asked.clear()
    (offline,) = ask(cached, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert offline == weights
    assert hub.asked == []
    (dead,) = ask(cached, HF_ENDPOINT=closed_port())
    assert dead == weights


def test_torch_files_where_there_is_nothing_else(hub, ask) -> None:
    hub.repositories["some/old"] = {"config.json": CONFIG, "pytorch_model.bin": b"x"}
    hub.repositories["some/gguf"] = {"config.json": CONFIG, "model-q4.gguf": b"x"}
    hub.repositories["some/cut"] = {
        k: v for k, v in REPOSITORY.items() if k != "model-2-of-2.safetensors"
    }
    old, strict, gguf, cut = ask(
        [
            {"function": WEIGHTS, "name": "some/old"},
            {"function": WEIGHTS, "name": "some/old", "load_format": "safetensors"},
            {"function": WEIGHTS, "name": "some/gguf"},
            {"function": WEIGHTS, "name": "some/cut"},
        ],
        HF_ENDPOINT=hub.url,
    )
    assert old[0] == "ok"
    assert "pytorch_model.bin" in names(old[1])
    assert strict[0] == "CheckpointError"
    assert "load_format='safetensors'" in strict[1]
    assert gguf[0] == "CheckpointError"
    assert "GGUF is not supported yet" in gguf[1]
    assert cut[0] == "CheckpointError"
    assert "model-2-of-2.safetensors" in cut[1]


def test_refusals_name_the_cause_and_the_remedy(hub, ask) -> None:
    hub.repositories["some/model"] = REPOSITORY
    hub.repositories["some/gated"] = REPOSITORY
    hub.repositories["some/data"] = {"README.md": b"x"}
    hub.gated.add("some/gated")
    results = ask(
        [
            {"function": SMALL, "name": "some/gated"},
            {"function": SMALL, "name": "some/gated", "token": "hf_wrong"},
            {"function": SMALL, "name": "some/gated", "token": "hf_right"},
            {"function": SMALL, "name": "some/nothing"},
            {"function": SMALL, "name": "some/model", "revision": "v9"},
            {"function": SMALL, "name": "some/data"},
            {"function": SMALL, "name": "no such-model!"},
        ],
        HF_ENDPOINT=hub.url,
    )
    gated, wrong, right, nothing, revision, data, strange = results
    for kind, message in (gated, wrong, nothing, revision, data, strange):
        assert kind == "ModelNotFoundError", message
        assert "\n" not in message
    assert "accept its licence at https://huggingface.co/some/gated" in gated[1]
    assert "HF_TOKEN is not set" in gated[1]
    assert "HF_TOKEN" in wrong[1]
    assert "hf_wrong" not in wrong[1]
    assert right[0] == "ok", right
    assert "no model 'some/nothing': no such directory here, nor a Hub id" in nothing[1]
    assert "no revision 'v9'" in revision[1]
    assert "has no config.json" in data[1]
    assert "no such directory here, nor can it be a Hub id" in strange[1]


def test_no_network(ask) -> None:
    calls = [{"function": SMALL, "name": "some/model"}]
    ((kind, message),) = ask(calls, HF_ENDPOINT=closed_port())
    assert kind == "ModelNotFoundError"
    assert "the Hub cannot be reached" in message
    assert "local path" in message
    assert "HF_HUB_OFFLINE" in message
    assert "\n" not in message
    ((kind, message),) = ask(calls, HF_ENDPOINT=closed_port(), HF_HUB_OFFLINE="1")
    assert kind == "ModelNotFoundError"
    assert "HF_HUB_OFFLINE=1 forbids downloading" in message


def test_disk_full_is_named() -> None:
    from quire.weights.source import ModelSource, _Hub

    try:
        with open("/dev/full", "w") as full:
            full.write("x")
    except OSError as error:
        message = _Hub(ModelSource("some/model", download_dir="/data"))._explain(error, "weights")
    assert "the disk is full: some/model could not be downloaded into /data" in message


def closed_port() -> str:
    """The address of a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
