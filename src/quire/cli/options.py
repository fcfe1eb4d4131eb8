"""Options that several commands share: the engine's (one for each field of `EngineConfig`) and
the sampling ones. Defaults are not repeated here: an option that is not given is not passed on.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from quire.core.config import BOXED_MODEL, DTYPES, LOAD_FORMATS, engine_config
from quire.core.errors import ConfigError
from quire.core.sampling_params import SamplingParams

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class Size(click.ParamType):
    """A number of bytes: 1500000000, 1.5G, 1GiB."""

    name = "bytes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        for unit in sorted(_UNITS, key=len, reverse=True):
            for suffix in (unit, unit + "b"):
                if text.endswith(suffix):
                    return int(self._number(text.removesuffix(suffix), value) * _UNITS[unit])
        return int(self._number(text, value))

    def _number(self, text: str, value: Any) -> float:
        try:
            return float(text)
        except ValueError:
            self.fail(f"{value!r} is not a number of bytes such as 2GiB or 1500000000")


# keyword of `LLM` -> (type, or None for a switch; help)
ENGINE_OPTIONS: dict[str, tuple[Any, str]] = {
    "dtype": (click.Choice(DTYPES), "Numbers the weights are held in."),
    "max_model_len": (int, "Most tokens of a prompt and its output together."),
    "device": (str, "auto, cpu, cuda or cuda:N."),
    "seed": (int, "Seed of everything random."),
    "tokenizer": (str, "Directory or Hub id of another tokenizer."),
    "tokenizer_mode": (click.Choice(("auto", "slow")), "Which tokenizer implementation."),
    "revision": (str, "Branch, tag or commit of a Hub model."),
    "tokenizer_revision": (str, "The same for the tokenizer."),
    "download_dir": (str, "Where Hub files are kept."),
    "hf_token": (str, "Token for gated Hub models (default: HF_TOKEN)."),
    "load_format": (click.Choice(LOAD_FORMATS), "Which weight files; dummy: random weights."),
    "trust_remote_code": (None, "Run code that comes with the checkpoint."),
    "model_impl": (click.Choice(("auto", "quire", "transformers")), "Whose model code."),
    "generation_config": (str, "auto, vllm (none), or a folder with generation_config.json."),
    "max_logprobs": (int, "Most log-probabilities per token a request may ask for; -1: any."),
    "gpu_memory_utilization": (float, "Share of a GPU's memory to use, in (0, 1]."),
    "cpu_memory_fraction": (float, "Share of free memory for the KV cache on a CPU."),
    "kv_cache_memory_bytes": (Size(), "Size of the KV cache, such as 2GiB."),
    "num_gpu_blocks_override": (int, "Number of KV cache pages, whatever is measured."),
    "block_size": (int, "Tokens in a KV cache page, a power of two."),
    "enable_prefix_caching": (None, "Reuse the cache of equal prompt beginnings."),
    "max_num_seqs": (int, "Most sequences computed together."),
    "max_num_batched_tokens": (int, "Most tokens in a step."),
    "scheduling_policy": (click.Choice(("fcfs", "priority")), "Which request goes first."),
    "enable_chunked_prefill": (None, "Cut long prompts into several steps."),
    "async_steps": (int, "Steps queued ahead of the one being waited for."),
    "enforce_eager": (None, "Never use CUDA graphs."),
    "tensor_parallel_size": (int, "Devices to spread the model over."),
}

# on by default, so they also have a --no- form
_SWITCHES_ON = frozenset({"enable_prefix_caching", "enable_chunked_prefill"})

SAMPLING_OPTIONS: dict[str, tuple[Any, str]] = {
    "temperature": (float, "Randomness; 0 takes the likeliest token."),
    "top_p": (float, "Sample from the likeliest tokens that reach this probability."),
    "top_k": (int, "Sample from that many likeliest tokens."),
    "min_p": (float, "Drop tokens below this fraction of the likeliest one's probability."),
    "repetition_penalty": (float, "Above 1 discourages tokens that were there before."),
    "max_tokens": (int, "Most tokens to generate."),
    "min_tokens": (int, "Fewest tokens to generate."),
}


def model_argument(command: Command) -> Command:
    """MODEL, the model in the box unless given."""
    return click.argument("model", default=BOXED_MODEL, metavar="[MODEL]")(command)


def engine_options(command: Command) -> Command:
    """Add every engine option to a command."""
    return _add(command, ENGINE_OPTIONS)


def sampling_options(command: Command) -> Command:
    """Add the sampling options, and --stop."""
    command = click.option("--stop", multiple=True, help="End the text here; may be repeated.")(
        command
    )
    return _add(command, SAMPLING_OPTIONS)


def split_options(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what `LLM` takes, what `SamplingParams` takes) out of a command's keywords.

    Raises:
        QuireError: a value is out of range; better now than after loading a model.
    """
    known = {k: v for k, v in given.items() if v is not None}
    engine = {k: v for k, v in known.items() if k in ENGINE_OPTIONS}
    sampling = {k: v for k, v in known.items() if k in SAMPLING_OPTIONS}
    if known.get("stop"):
        sampling["stop"] = list(known["stop"])
    rest = known.keys() - engine.keys() - sampling.keys() - {"stop"}
    if rest:
        raise ConfigError(f"options without a place: {', '.join(sorted(rest))}")
    engine_config(**engine)
    SamplingParams(**{"max_tokens": None, **sampling})
    return engine, sampling


def _add(command: Command, options: dict[str, tuple[Any, str]]) -> Command:
    for name, (kind, text) in reversed(options.items()):
        flag = "--" + name.replace("_", "-")
        if kind is not None:
            command = click.option(flag, name, type=kind, default=None, help=text)(command)
            continue
        if name in _SWITCHES_ON:
            flag = f"{flag}/--no-{name.replace('_', '-')}"
        command = click.option(flag, name, is_flag=True, default=None, help=text)(command)
    return command
