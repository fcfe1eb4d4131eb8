"""Loading weights: memory, time and rate, against reading the files.

Makes a random checkpoint of several shards, then loads it in a child process and prints what
that took. The claim measured: peak memory <= weights + 1 GiB.

Peak memory is VmHWM, the largest resident set the kernel saw, less what the process held before
loading. Safetensors files are read, not mapped, so this is all memory of the process's own. The
torch files of `--format pt` are mapped: their pages count as resident while they are mapped, yet
are the page cache's and can be dropped at any time; the peak of anonymous memory, sampled every
5 ms, is printed beside it.

    python benchmarks/loading.py --gigabytes 3 --source-dtype float32 --dtype bfloat16
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file

from quire.core.config import ModelConfig
from quire.kernels.select import select_ops
from quire.platform.detect import detect
from quire.platform.host import num_cores
from quire.platform.streams import synchronize
from quire.weights.build import build_model
from quire.weights.dtypes import torch_dtype
from quire.weights.loader import CHUNK_BYTES, MAX_THREADS

HIDDEN, WIDTH, VOCABULARY = 2048, 8192, 32000
SHARD_BYTES = 1_000_000_000
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": WIDTH,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}


def main() -> None:
    """Parse arguments; make, load, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--source-dtype", default="bfloat16")
    parser.add_argument("--dtype", default="bfloat16", help="the model's")
    parser.add_argument("--format", choices=("safetensors", "pt"), default="safetensors")
    parser.add_argument("--impl", choices=("quire", "transformers"), default="quire")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", help="keep the checkpoint here instead of a temporary folder")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(load(options)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_checkpoint(folder, options.gigabytes, options.source_dtype, options.format)
        paths = [p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin")]
        size = sum(p.stat().st_size for p in paths)
        read_files(paths)  # warm: both sides then read the page cache
        seconds = read_files(paths), read_files(paths, fresh=True), read_in_threads(paths)
        arguments = [*sys.argv[1:], "--folder", str(folder), "--child"]
        child = subprocess.run(
            [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
        )
        report(json.loads(child.stdout.splitlines()[-1]), size, len(paths), seconds)


def make_checkpoint(folder: Path, gigabytes: float, dtype_name: str, file_format: str) -> None:
    """Random weights of a Llama of about `gigabytes`, in shards of about a gigabyte."""
    dtype = torch_dtype(dtype_name)
    shapes = {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN // 4, HIDDEN)}
    shapes |= {"self_attn.v_proj": (HIDDEN // 4, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN)}
    shapes |= {"mlp.gate_proj": (WIDTH, HIDDEN), "mlp.up_proj": (WIDTH, HIDDEN)}
    shapes |= {"mlp.down_proj": (HIDDEN, WIDTH)}
    norms = ("input_layernorm", "post_attention_layernorm")
    layer_bytes = sum(a * b for a, b in shapes.values()) * dtype.itemsize
    table_bytes = VOCABULARY * HIDDEN * dtype.itemsize
    layers = max(1, round((gigabytes * 1e9 - table_bytes) / layer_bytes))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))
    if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
        return

    noise = torch.rand(WIDTH, HIDDEN).to(dtype).sub_(0.5).mul_(0.02)
    names: list[tuple[str, tuple[int, ...]]] = [
        ("model.embed_tokens.weight", (VOCABULARY, HIDDEN)),
        ("model.norm.weight", (HIDDEN,)),
    ]
    for layer in range(layers):
        start = f"model.layers.{layer}."
        names += [(f"{start}{name}.weight", shape) for name, shape in shapes.items()]
        names += [(f"{start}{name}.weight", (HIDDEN,)) for name in norms]
    shard: dict[str, torch.Tensor] = {}
    weight_map: dict[str, str] = {}
    number = 0
    for name, shape in names:
        count = torch.Size(shape).numel()
        repeats = -(-count // noise.numel())
        shard[name] = noise.view(-1).repeat(repeats)[:count].view(shape).clone()
        if sum(t.nbytes for t in shard.values()) > SHARD_BYTES or name == names[-1][0]:
            number += 1
            file = save_shard(folder, shard, number, file_format)
            weight_map |= dict.fromkeys(shard, file)
            shard = {}
    index = "model.safetensors" if file_format == "safetensors" else "pytorch_model.bin"
    text = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / f"{index}.index.json").write_text(text)


def save_shard(
    folder: Path, tensors: dict[str, torch.Tensor], number: int, file_format: str
) -> str:
    """Write one file and return its name."""
    if file_format == "safetensors":
        name = f"model-{number:05}.safetensors"
        save_file(tensors, folder / name, {"format": "pt"})
    else:
        name = f"pytorch_model-{number:05}.bin"
        torch.save(tensors, folder / name)
    return name


def read_files(paths: list[Path], *, fresh: bool = False) -> float:
    """Seconds to read the files into one reused buffer, or into memory never touched before,
    whose pages the kernel must first supply, as it must for a model's parameters."""
    buffer = torch.empty(16 << 20, dtype=torch.uint8).numpy().data
    began = time.perf_counter()
    for path in paths:
        whole = torch.empty(path.stat().st_size, dtype=torch.uint8).numpy().data
        with path.open("rb", buffering=0) as file:
            done = 0
            while count := file.readinto(whole[done : done + len(buffer)] if fresh else buffer):
                done += count
    return time.perf_counter() - began


def read_in_threads(paths: list[Path]) -> float:
    """Seconds to read the files on as many threads as the loader has, each into its buffer."""
    begins = [
        (path, begin) for path in paths for begin in range(0, path.stat().st_size, CHUNK_BYTES)
    ]
    own = threading.local()

    def read(place: tuple[Path, int]) -> None:
        if not hasattr(own, "buffer"):
            own.buffer = torch.empty(CHUNK_BYTES, dtype=torch.uint8).numpy().data
        with place[0].open("rb", buffering=0) as file:
            file.seek(place[1])
            file.readinto(own.buffer)

    with ThreadPoolExecutor(min(MAX_THREADS, num_cores())) as threads:
        began = time.perf_counter()
        list(threads.map(read, begins))
        return time.perf_counter() - began


def load(options: argparse.Namespace) -> dict[str, float]:
    """In the child: build the model and measure."""
    folder = Path(options.folder)
    config = ModelConfig(str(folder), model_impl=options.impl)
    hf_config = json.loads((folder / "config.json").read_text())
    caps = detect(options.device)
    ops = select_ops(caps)
    if options.impl == "transformers":
        import transformers.models.llama.modeling_llama  # noqa: F401
    torch.zeros(1, device=caps.torch_device)  # a GPU's own set-up is not loading
    before = status()["VmRSS"]
    with Sampler() as sampler:
        began = time.perf_counter()
        model = build_model(
            config, folder, hf_config, ops, caps, 2048, torch_dtype(options.dtype), False
        )
        synchronize(caps)
        seconds = time.perf_counter() - began
    weights = sum(p.nbytes for p in model.parameters())
    return {
        "weights": weights,
        "resident": status()["VmHWM"] - before,
        "anonymous": sampler.peak - sampler.first,
        "seconds": seconds,
    }


def status() -> dict[str, int]:
    """The sizes in /proc/self/status, in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in lines if w[-1:] == ["kB"]}


class Sampler:
    """The peak of anonymous memory while it is entered."""

    def __init__(self) -> None:
        self.first = self.peak = status()["RssAnon"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, status()["RssAnon"])

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, status()["RssAnon"])


def report(measured: dict[str, float], size: int, files: int, read: Sequence[float]) -> None:
    """Print the figures."""
    show: Callable[[float], str] = "{:.2f} GB".format
    weights = measured["weights"]
    on_host = measured["anonymous"]
    rate = size / measured["seconds"] / 1e9
    print(f"checkpoint      {show(size / 1e9)} in {files} files")
    print(f"weights         {show(weights / 1e9)}")
    print(f"peak resident   {show(measured['resident'] / 1e9)} (with file pages while mapped)")
    print(f"peak anonymous  {show(on_host / 1e9)}, weights {(on_host - weights) / 2**30:+.2f} GiB")
    print(f"loaded in       {measured['seconds']:.2f} s, {rate:.2f} GB/s")
    for seconds, into in zip(read, ("one buffer", "new memory", "buffers of threads"), strict=True):
        print(f"plain read      {seconds:.2f} s, {size / seconds / 1e9:.2f} GB/s into {into}")


if __name__ == "__main__":
    main()
