"""What quantization costs in quality: the boxed model's loss on text it has not seen.

    PYTHONPATH=. python benchmarks/quantized_loss.py [--texts 400] [--device cpu]

The texts are new draws of the generator that made its training data (`tools/boxed_model`): its
facts and wordings, other choices. "all" counts every token but each text's first, "answers" those
that the model would write: of the assistant's turns. Loss is in nats a token; perplexity is e to
the power of it. A model of 7 million parameters with rows of 256 to 640 inputs suffers more from
rounding than larger ones do.
"""

import argparse
import gc
import math
import random
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tools.boxed_model.generate import training_text
from tools.boxed_model.render import Masker, Renderer

import quire
from machine import machine_line
from quire import LLM, SamplingParams
from quire.core.config import BOXED_MODEL

LONGEST = 1024  # tokens; longer texts are left out
SEED = 20261121  # none of the training's


def texts(tokenizer: Tokenizer, count: int) -> list[np.ndarray]:
    rng, renderer = random.Random(SEED), Renderer()
    found: list[np.ndarray] = []
    while len(found) < count:
        ids = np.array(tokenizer.encode(training_text(rng, renderer)[0]).ids)
        if 2 <= len(ids) <= LONGEST:
            found.append(ids)
    return found


def losses(quantization: str | None, device: str, prompts: list[np.ndarray]) -> list[np.ndarray]:
    """Of every token but the first of each prompt."""
    llm = LLM(quantization=quantization, device=device, enable_prefix_caching=False)
    results = llm.generate(
        [{"prompt_token_ids": ids.tolist()} for ids in prompts],
        SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0),
        use_tqdm=False,
    )
    found = []
    for ids, result in zip(prompts, results, strict=True):
        assert result.prompt_logprobs is not None
        known = zip(ids[1:].tolist(), result.prompt_logprobs[1:], strict=True)
        found.append(np.array([-token[i].logprob for i, token in known if token is not None]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(Path(quire.__file__).parent / "boxed" / "tokenizer.json"))
    masker = Masker(tokenizer)
    prompts = texts(tokenizer, given.texts)
    answers = np.concatenate([masker(ids)[1:] for ids in prompts])
    print(machine_line(given.device))
    print(
        f"{BOXED_MODEL}: {len(prompts)} texts, {len(answers):,} tokens, {answers.sum():,} answers"
    )
    print(f"{'':6}{'loss, all':>12}{'perplexity':>12}{'loss, answers':>15}{'perplexity':>12}")
    for quantization in (None, "int8", "int4"):
        loss = np.concatenate(losses(quantization, given.device, prompts))
        whole, own = loss.mean(), loss[answers].mean()
        print(f"{quantization or 'bf16':6}{whole:12.4f}{math.exp(whole):12.4f}{own:15.4f}"
              f"{math.exp(own):12.4f}", flush=True)  # fmt: skip
        gc.collect()


if __name__ == "__main__":
    main()
