"""Worker: one device's start-up. Look, resolve, build, load, measure, allocate; then a Runner.

Everything "auto" becomes a number here, logged with its reason. What is measured on the way
(free memory after loading, the activation peak) goes to the planner, which divides it.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from quire.core import env
from quire.core.config import EngineConfig
from quire.core.kv_spec import KVGroup, is_8_bit
from quire.core.messages import ModelInfo
from quire.core.plan import PageDelta, RowStart, StepPlan
from quire.core.sampling_params import SamplingParams
from quire.kernels.batch import LayerCache
from quire.kernels.select import open_compiler, select_ops
from quire.kernels.table import Ops
from quire.planner import memory as planner
from quire.planner.resolve import ModelFacts, Resolved, resolve
from quire.platform import memory
from quire.platform.caps import DeviceCaps
from quire.platform.detect import detect
from quire.platform.streams import empty_cache, set_device, synchronize
from quire.runner import kv_cache
from quire.runner.graph_pool import GraphPool
from quire.runner.model import Model
from quire.runner.prompt_graphs import most_tokens
from quire.runner.rows import DeviceRows
from quire.runner.runner import Runner
from quire.weights.build import build_model, model_recipe
from quire.weights.dtypes import torch_dtype
from quire.weights.hf_config import pooling_of, read_hf_config, sampling_defaults
from quire.weights.progress import ProgressOption
from quire.weights.source import ModelSource, fetch_small_files

if TYPE_CHECKING:
    from quire.kernels.compiling import Compiler, Listing

logger = logging.getLogger("quire")

# Tokens of the prompts whose kernels are ready at the start, beside the longest one's. Other
# kernels compile as soon as there is time.
FIRST_PROMPTS = (32, 64, 128)


@dataclass(frozen=True, slots=True)
class Worker:
    """A loaded device: the runner, what it runs, and the page counts the scheduler may use."""

    runner: Runner
    info: ModelInfo
    groups: tuple[KVGroup, ...]
    async_steps: int


@torch.inference_mode()
def start_worker(config: EngineConfig, progress: ProgressOption = True) -> Worker:
    """Load the model and allocate its cache.

    Raises:
        ModelNotFoundError, UnsupportedModelError, CheckpointError, ConfigError,
        InsufficientMemoryError: one line each, naming the remedy.
    """
    began = time.perf_counter()
    env.bound_matmul_caches()
    caps = detect(config.device.device)
    set_device(caps)
    compiler = None if config.device.enforce_eager else open_compiler(caps)
    directory = fetch_small_files(ModelSource.of_model(config.model))
    hf = read_hf_config(directory)
    defaults = sampling_defaults(config.model, hf)
    recipe = model_recipe(config.model, directory, hf.config)
    resolved = resolve(config, ModelFacts(recipe.dtype, recipe.max_position), caps)
    for choice in resolved.choices:
        logger.debug("%s", choice)
    ops = select_ops(caps)
    logger.debug("ops:\n%s", ops.explain())
    dtype = torch_dtype(resolved.dtype)
    in_8_bits = is_8_bit(resolved.kv_cache_dtype)
    if in_8_bits and caps.kind == "cpu":
        logger.warning(
            "kv_cache_dtype=%r halves the KV cache, but attention then runs in torch, slower "
            "than the C++ kernel for bfloat16",
            config.cache.kv_cache_dtype,
        )
    model = build_model(
        config.model,
        directory,
        hf.config,
        ops,
        caps,
        resolved.max_model_len,
        dtype,
        progress,
        scale_cache=in_8_bits,
    )
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    groups = recipe.kv_groups(resolved.kv_cache_dtype)
    if compiler is not None and not model.capturable:
        compiler.close()
        compiler = None
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    budget = resolved.max_num_batched_tokens
    prompt_tokens = most_tokens(num_weights, len(recipe.layers), budget)
    sizes = _Sizes(config, resolved, groups, ops, caps, compiler, prompt_tokens)
    peak, capture_peak = sizes.activation_peak(model, recipe.vocab_size)
    plan = sizes.plan(peak, weight_bytes)
    for message in plan.messages:
        logger.warning("%s", message)
    caches = kv_cache.allocate(groups, plan.num_pages, config.cache.page_size, caps)
    runner = sizes.runner(model, recipe.vocab_size, caches, plan.max_model_len, capture_peak)
    sizes.wait_for_kernels()
    runner.capture_ahead()
    tokens = planner.kv_token_capacity(groups, plan, config.cache.page_size)
    logger.info(
        "%s on %s: %s of weights, %s of KV cache (%s tokens), ready in %.1f s",
        recipe.architecture,
        f"{caps.name} ({caps.isa or 'torch alone'})" if caps.kind == "cpu" else caps.name,
        planner.gib(weight_bytes),
        planner.gib(plan.bytes),
        f"{tokens:,}",
        time.perf_counter() - began,
    )
    info = ModelInfo(
        model=config.model.model,
        architecture=recipe.architecture,
        vocab_size=recipe.vocab_size,
        max_model_len=plan.max_model_len,
        dtype=resolved.dtype,
        kv_cache_dtype=resolved.kv_cache_dtype,
        device=caps.torch_device,
        eos_token_ids=hf.eos_token_ids(),
        generation_defaults=defaults,
        page_size=config.cache.page_size,
        num_pages=plan.num_pages,
        max_num_seqs=resolved.max_num_seqs,
        max_num_batched_tokens=resolved.max_num_batched_tokens,
        enable_prefix_caching=config.cache.enable_prefix_caching,
        seed=config.model.seed,
        weight_bytes=weight_bytes,
        kv_bytes=plan.bytes,
        hidden_size=recipe.hidden_size,
        pooling=pooling_of(config.model, directory),
    )
    return Worker(runner, info, groups, resolved.async_steps)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The measurements behind the memory plan."""

    config: EngineConfig
    resolved: Resolved
    groups: tuple[KVGroup, ...]
    ops: Ops
    caps: DeviceCaps
    compiler: "Compiler | None"
    prompt_tokens: int  # of the largest step with prompts that is captured
    kernels: "list[Listing]" = field(default_factory=list)

    def rows(self, max_model_len: int) -> DeviceRows:
        return DeviceRows(
            self.resolved.max_num_seqs,
            max_model_len,
            self.config.cache.page_size,
            self.groups,
            self.ops,
            self.caps,
        )

    def runner(
        self,
        model: Model,
        vocab_size: int,
        caches: list[LayerCache],
        max_model_len: int,
        capture_peak: int,
    ) -> Runner:
        compiler = self.compiler
        return Runner(
            model,
            caches,
            self.rows(max_model_len),
            self.ops,
            vocab_size,
            self.caps,
            None if compiler is None else GraphPool(self.caps, compiler, capture_peak),
            self.prompt_tokens,
        )

    def plan(self, activations: int, weights: int) -> planner.KVPlan:
        """How many pages each KV group gets out of what is left."""
        resolved, cache = self.resolved, self.config.cache
        cap = None
        if self.caps.kind == "cpu":
            cap = planner.cpu_token_cap(resolved.max_num_seqs, resolved.max_model_len)
        return planner.plan_kv(
            self.groups,
            cache.page_size,
            self._available(activations, weights),
            resolved.max_model_len,
            resolved.max_model_len_explicit,
            resolved.max_num_seqs,
            resolved.max_num_batched_tokens,
            cache.num_pages,
            cap,
        )

    def _available(self, activations: int, weights: int) -> int:
        cache = self.config.cache
        if cache.kv_cache_memory_bytes is not None:
            return cache.kv_cache_memory_bytes
        free = memory.free_bytes(self.caps)
        if self.caps.kind == "cpu":
            # The system counts a mapped file's pages as free.
            free = min(free, self.caps.free_memory - weights)
            return int(free * cache.cpu_memory_fraction)
        # Whatever else lives on the GPU counts as used, other processes included.
        total = memory.total_bytes(self.caps)
        rows = planner.device_rows_bytes(
            self.resolved.max_num_seqs,
            self.resolved.max_model_len,
            cache.page_size,
            len(self.groups),
        )
        return int(total * cache.gpu_memory_utilization) - (total - free) - activations - rows

    def activation_peak(self, model: Model, vocab_size: int) -> tuple[int, int]:
        """Bytes of temporaries of the largest step and of graphs, and what one capture may take.
        Measured by capturing the step, which does not wait for kernels, or where nothing is to be
        captured by running it. A CPU's share is what `cpu_memory_fraction` leaves, so nothing is
        measured there."""
        if self.caps.kind == "cpu":
            return 0, 0
        num_seqs, budget = self.resolved.max_num_seqs, self.resolved.max_num_batched_tokens
        lengths = _fill(budget, num_seqs, self.resolved.max_model_len)
        page_size = self.config.cache.page_size
        # One page stands for all: its contents do not matter here.
        one_each = [1] * len(self.groups)
        caches = kv_cache.allocate(self.groups, one_each, page_size, self.caps)
        runner = self.runner(model, vocab_size, caches, lengths[0] + 1, 0)
        empty_cache(self.caps)  # of what loading has left, so that all of the step's is its own
        num_groups = len(self.groups)
        step = _prompt_step(lengths, page_size, num_groups)
        with memory.measured(self.caps) as took:
            if self.compiler is None:
                runner.submit(step).result()
            else:
                self._compile(runner.list_kernels(step))
        largest = graphs = 0
        if self.compiler is not None:
            self._compile(runner.list_decode_kernels())
            for tokens in FIRST_PROMPTS:
                prompt = _prompt_step([min(tokens, budget, lengths[0])], page_size, num_groups)
                self._compile(runner.list_kernels(prompt))
            largest, graphs = runner.graph_bytes(took.reserved, budget)
        synchronize(self.caps)
        del runner, caches
        empty_cache(self.caps)
        return took.reserved + graphs, largest

    def _compile(self, kernels: "Listing") -> None:
        kernels.start()
        self.kernels.append(kernels)

    def wait_for_kernels(self) -> None:
        """Return when the kernels are compiled that the first requests need."""
        for kernels in self.kernels:
            kernels.wait()


def _fill(budget: int, num_seqs: int, max_len: int) -> list[int]:
    """Prompt lengths of all sequences, the longest first, that fill a step: few and long, since
    the kernels of long prompts are the ones to have ready, and prompts of two tokens."""
    least = min(2, max_len, budget // num_seqs)
    lengths: list[int] = []
    for others in reversed(range(num_seqs)):
        lengths.append(min(max_len, budget - least * others))
        budget -= lengths[-1]
    return lengths


def _prompt_step(lengths: list[int], page_size: int, num_groups: int) -> StepPlan:
    """Every row computes its length of tokens and samples with every filter on."""
    params = SamplingParams(temperature=1.0, top_p=0.9, top_k=50, min_p=0.01)
    rows = range(len(lengths))
    return StepPlan(
        step=0,
        starts=[RowStart(row, [0] * lengths[row], lengths[row], params, row, ()) for row in rows],
        pages=[
            PageDelta(group, row, 0, [0] * -(-lengths[row] // page_size))
            for row in rows
            for group in range(num_groups)
        ],
        rows=list(rows),
        query_lens=lengths,
        num_computed=[0] * len(lengths),
        samples=[True] * len(lengths),
    )
