"""The rows of `cpu.py` by llama.cpp, from a folder with a build of it.

    python benchmarks/llama_cpp.py BUILD MODEL.gguf THREADS "decode 1" "prefill 512"

Decode and prefill are `llama-batched-bench`'s own figures; `start` is the life of such a process
that makes one token. Models of random weights are written with the `gguf` package and quantized
with `llama-quantize`.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from engines.throughput import CONTEXT, STEPS, say

FILES = {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}


def make_model(build: Path, folder: Path, kind: str) -> Path:
    """The model of the config in `folder`, with random weights, as a file there."""
    dense = folder / "bf16.gguf"
    if not dense.exists():
        _write(dense, json.loads((folder / "config.json").read_text()))
    made = folder / f"{kind}.gguf"
    if not made.exists():
        command = [build / "bin" / "llama-quantize", dense, made, FILES[kind]]
        subprocess.run(command, check=True, capture_output=True)
    return made


def _write(path: Path, config: dict[str, Any]) -> None:
    import gguf

    family = config["model_type"]
    writer = gguf.GGUFWriter(path, family)
    hidden, mlp, head = (config[n] for n in ("hidden_size", "intermediate_size", "head_dim"))
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(mlp)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("none")

    random = np.random.default_rng(0)
    some = (random.standard_normal(1 << 20, np.float32) / hidden**0.5).view(np.uint32) >> 16
    block = some.astype(np.uint16)

    def add(name: str, *shape: int) -> None:
        values = np.resize(block, shape).view(np.uint8)  # of other values the time is the same
        writer.add_tensor(name, values, raw_dtype=gguf.GGMLQuantizationType.BF16)

    def add_norm(name: str, size: int) -> None:
        writer.add_tensor(name, np.ones(size, np.float32))

    add("token_embd.weight", config["vocab_size"], hidden)
    add_norm("output_norm.weight", hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"blk.{layer}."
        add_norm(f"{at}attn_norm.weight", hidden)
        add_norm(f"{at}ffn_norm.weight", hidden)
        if family == "qwen3":
            add_norm(f"{at}attn_q_norm.weight", head)
            add_norm(f"{at}attn_k_norm.weight", head)
        add(f"{at}attn_q.weight", heads * head, hidden)
        add(f"{at}attn_k.weight", kv_heads * head, hidden)
        add(f"{at}attn_v.weight", kv_heads * head, hidden)
        add(f"{at}attn_output.weight", hidden, heads * head)
        add(f"{at}ffn_gate.weight", mlp, hidden)
        add(f"{at}ffn_up.weight", mlp, hidden)
        add(f"{at}ffn_down.weight", hidden, mlp)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    def __init__(self, build: Path, model: Path, threads: int) -> None:
        self._command = [build / "bin" / "llama-batched-bench", "-m", model, "-t", str(threads)]

    def row(self, name: str) -> float:
        work, _, number = name.partition(" ")
        match work:
            case "decode":
                return float(self._run(CONTEXT, STEPS, int(number))["speed_tg"])
            case "prefill":
                return float(self._run(int(number), 1, 1)["speed_pp"])
            case _:
                began = time.perf_counter()
                self._run(32, 1, 1)
                return time.perf_counter() - began

    def _run(self, prompt: int, output: int, batch: int) -> dict[str, Any]:
        sizes = {"c": (prompt + output) * batch, "npp": prompt, "ntg": output, "npl": batch}
        options = [word for name, size in sizes.items() for word in (f"-{name}", str(size))]
        done = subprocess.run(
            [*self._command, *options, "--output-format", "jsonl"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1])
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("threads", type=int)
    parser.add_argument("rows", nargs="+")
    given = parser.parse_args()
    peer = LlamaCpp(given.build, given.model, given.threads)
    for row in given.rows:
        say(row, peer.row(row))


if __name__ == "__main__":
    main()
