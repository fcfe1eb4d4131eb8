"""Makes the training text in parallel, trains on one GPU for a fixed time, writes the checkpoint.

`python -m tools.boxed_model.train --out DIR --minutes 6`. DIR must hold tokenizer.json (see
make_tokenizer.py). The clock decides the length of the run, so it always ends; the learning rate
follows the clock too. No evaluation here, see evaluate.py.
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tools.boxed_model.export import export
from tools.boxed_model.generate import BUCKETS, write_shard
from tools.boxed_model.model import Decoder, Layer, Shape, rope_tables
from tools.boxed_model.optimizer import Muon
from tools.boxed_model.render import END_OF_TEXT, IM_END
from torch import Tensor

PROMPT_WEIGHT = 0.1  # loss weight of tokens the assistant does not produce; its own weigh 1
MUON_LR, ADAM_LR = 0.02, 3e-3
WARM_STEPS, DECAY_FROM = 50, 0.4  # steps; share of the time after which the rate falls to zero


class Data:
    """All rows on the device, by length; hands out batches of a constant number of tokens."""

    def __init__(
        self, folder: Path, batch_tokens: int, device: torch.device, seed: int, pad: int
    ) -> None:
        self._batch_tokens, self._pad, self._device = batch_tokens, pad, device
        self._generator = torch.Generator().manual_seed(seed)
        self._ids: dict[int, Tensor] = {}
        self._mask: dict[int, Tensor] = {}
        self._order: dict[int, Tensor] = {}
        self._next: dict[int, int] = {}
        for length in BUCKETS:
            parts = sorted(folder.glob(f"*_{length}_ids.npy"))
            if not parts:
                continue
            ids = np.concatenate([np.load(p) for p in parts]).astype(np.int16)
            mask = np.concatenate([np.load(str(p).replace("_ids", "_mask")) for p in parts])
            self._ids[length] = torch.from_numpy(ids).to(device)  # [rows, length + 1]
            self._mask[length] = torch.from_numpy(mask).to(device)
            self._shuffle(length)
        self._lengths = list(self._ids)
        # Buckets are visited in proportion to the rows' tokens, so every row is seen equally often.
        self._share = torch.tensor([float(self._ids[n].shape[0] * n) for n in self._lengths])

    @property
    def tokens(self) -> int:
        """Tokens held, padding included."""
        return int(self._share.sum())

    def _shuffle(self, length: int) -> None:
        rows = self._ids[length].shape[0]
        need = max(rows, self._batch_tokens // length)
        order = torch.cat(
            [torch.randperm(rows, generator=self._generator) for _ in range(-(-need // rows))]
        )
        self._order[length], self._next[length] = order.to(self._device), 0

    def batch(self) -> tuple[int, Tensor, Tensor, Tensor]:
        """The row length, and flat ids, targets (int64 [T]) and weights (fp32 [T])."""
        length = self._lengths[int(torch.multinomial(self._share, 1, generator=self._generator))]
        rows = self._batch_tokens // length
        if self._next[length] + rows > len(self._order[length]):
            self._shuffle(length)
        at = self._next[length]
        self._next[length] = at + rows
        pick = self._order[length][at : at + rows]
        ids, mask = self._ids[length][pick].long(), self._mask[length][pick]
        targets, spoken = ids[:, 1:], mask[:, 1:]
        weights = torch.where(spoken, 1.0, torch.where(targets == self._pad, 0.0, PROMPT_WEIGHT))
        return length, ids[:, :-1].reshape(-1), targets.reshape(-1), weights.reshape(-1)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that must exist."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise SystemExit(f"the tokenizer has no {token}")
    return int(found)


def make_text(
    tokenizer: Path, folder: Path, workers: int, conversations: int, seconds: float, seed: int
) -> dict[str, int]:
    """Runs the generator in worker processes; returns the summed counts."""
    share = math.ceil(conversations / workers)
    jobs = [(seed * 1000 + i, share, seconds, str(tokenizer), str(folder)) for i in range(workers)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        counts = pool.map(write_shard, jobs, chunksize=1)
    return {key: sum(c[key] for c in counts) for key in counts[0]}


def warm_up(model: Decoder, data: Data, batch_tokens: int, device: torch.device) -> None:
    """Two forward and backward passes, outside the clock: compilation happens here."""
    for _ in range(2):
        length, ids, targets, weights = data.batch()
        rope = rope_tables(model.shape, batch_tokens // length, length, device)
        with torch.autocast(device.type, torch.bfloat16):
            loss, _ = model.loss_of(model(ids, length, rope), targets, weights)
        loss.backward()
        model.zero_grad(set_to_none=True)


def rate(step: int, done: float) -> float:
    """The learning rate's factor: a short warm-up, flat, then linear to zero at the end of time."""
    return min(1.0, (step + 1) / WARM_STEPS) * min(1.0, max(0.0, 1 - done) / (1 - DECAY_FROM))


def train(
    model: Decoder, data: Data, minutes: float, batch_tokens: int, device: torch.device
) -> dict[str, float]:
    """Trains in place until the time is up; returns steps, tokens, loss and seconds."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(
        others, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0, fused=device.type == "cuda"
    )
    rope = {n: rope_tables(model.shape, batch_tokens // n, n, device) for n in BUCKETS}
    start, step, spoken = time.monotonic(), 0, torch.zeros((), device=device)
    seconds, shown = minutes * 60, 0.0
    while (elapsed := time.monotonic() - start) < seconds:
        length, ids, targets, weights = data.batch()
        with torch.autocast(device.type, torch.bfloat16):
            hidden = model(ids, length, rope[length])
            loss, spoken_loss = model.loss_of(hidden, targets, weights)
        loss.backward()
        factor = rate(step, elapsed / seconds)
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * factor
        muon.step(MUON_LR * factor)
        adam.step()
        model.zero_grad(set_to_none=True)
        spoken = spoken.lerp(spoken_loss.detach(), 0.02 if step > 50 else 0.2)
        step += 1
        if step % 20 == 0:
            value = float(spoken)  # also keeps the host from running far ahead of the clock
            if elapsed - shown > 10 or step == 20:
                shown = elapsed
                print(
                    f"step {step} {elapsed:.0f} s loss {value:.4f} "
                    f"{step * batch_tokens / max(elapsed, 1e-9):.0f} tokens/s",
                    flush=True,
                )
    return {
        "steps": step,
        "tokens": step * batch_tokens,
        "loss": float(spoken),
        "seconds": time.monotonic() - start,
    }


def main() -> None:
    """Text, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6.3)
    parser.add_argument("--conversations", type=int, default=6_000_000)
    parser.add_argument("--text-seconds", type=float, default=70.0)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--batch-tokens", type=int, default=98_304)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--layers", type=int, default=Shape().layers)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--backend", default="inductor", help="torch.compile backend")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_file(str(options.out / "tokenizer.json"))
    pad, turn_end = (token_id(tokenizer, token) for token in (END_OF_TEXT, IM_END))
    eos = [turn_end, pad]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = make_text(
            options.out / "tokenizer.json",
            Path(folder),
            options.workers,
            options.conversations,
            options.text_seconds,
            options.seed,
        )
        data = Data(Path(folder), options.batch_tokens, device, options.seed, pad)
    text_seconds = time.monotonic() - began
    print(f"text: {counts}, {data.tokens} tokens with padding, {text_seconds:.0f} s", flush=True)
    shape = Shape(layers=options.layers, vocab=tokenizer.get_vocab_size())
    model = Decoder(shape).to(device)
    compiled = not options.no_compile
    if compiled:
        torch._dynamo.config.recompile_limit = 64
        eager = (Layer.before, Layer.after, Decoder.loss_of)
        model.compile_parts(options.backend)
        try:
            warm_up(model, data, options.batch_tokens, device)
        except RuntimeError as error:  # the compiler's errors derive from it
            print(f"compilation failed, training eagerly: {error}", flush=True)
            Layer.before, Layer.after, Decoder.loss_of = eager  # type: ignore[method-assign]
            compiled = False
    print(f"ready to train after {time.monotonic() - began:.0f} s", flush=True)
    report = train(model, data, options.minutes, options.batch_tokens, device)
    parameters = sum(p.numel() for p in model.parameters())
    export(model, options.out, eos, pad)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    summary = {
        **report,
        "parameters": parameters,
        "device": name,
        "conversations": counts["made"],
        "text_tokens": counts["tokens"],
        "padded_tokens": data.tokens,
        "plain": counts["plain"],
        "dropped": counts["dropped"],
        "text_seconds": text_seconds,
        "compiled": compiled,
    }
    (options.out / "train.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
