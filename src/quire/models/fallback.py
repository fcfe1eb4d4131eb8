"""Any other decoder-only model: the transformers module, with Quire's paged attention inside.

Implements the same protocol as `models/decoder.py`. transformers builds the module and reads
its checkpoint (it knows how each of its models' tensors are renamed and merged); Quire supplies
attention and the KV cache, and checks on loading that both give the same result. Slower than a
recipe: nothing is fused. Runs in the worker.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quire.core.errors import CheckpointError, UnsupportedModelError, one_line
from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.kernels.table import Ops
from quire.models.fallback_recipe import (
    ATTENTION,
    Attend,
    FallbackRecipe,
    Steps,
    base_of,
    make_model,
    register,
)
from quire.models.recipe import group_of_layer

# Largest relative difference between paged and transformers' own attention on loading.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}


class FallbackModel(nn.Module):
    """A transformers causal language model under the model protocol.

    Args:
        model: transformers' module on its device, built with the `quire_paged` attention.
        ops: the device's ops; attention and KV writes are used.
    """

    capturable = False  # transformers' modules may look at values, which waits for the device
    group_sizes: Sequence[int] = ()
    logits_dtype = torch.float32

    def __init__(self, recipe: FallbackRecipe, model: nn.Module, ops: Ops) -> None:
        super().__init__()
        self.recipe = recipe
        self._ops = ops
        self.model = model.eval().requires_grad_(False)
        self._steps = Steps(model)
        # Bound methods, not modules: each parameter has one name.
        self._base: Callable[..., Any] = base_of(model).__call__
        self._head: Callable[..., Any] = _head_alone(model).__call__
        self._groups = group_of_layer(recipe.kv_groups())

    def forward(
        self, inputs: StepInputs, kv: Sequence[LayerCache], wanted: Tensor | None = None
    ) -> Tensor:
        """Final hidden states, the final norm applied: of the tokens `wanted` [n], or of all.

        Writes this step's keys and values into `kv`, one pair of page tensors a layer.
        """
        self._steps.attend = self._attend(inputs.groups, kv)
        try:
            output = self._base(
                input_ids=inputs.token_ids[None],
                position_ids=inputs.positions[None],
                use_cache=False,
            )
        finally:
            self._steps.attend = None
        hidden: Tensor = output[0][0]  # [T, E]
        return hidden if wanted is None else hidden.index_select(0, wanted)

    def _attend(self, groups: Sequence[AttentionBatch], kv: Sequence[LayerCache]) -> Attend:
        """One forward's way from attention calls, which come in layer order, to the ops."""
        calls = zip(self.recipe.layers, self._groups, kv, strict=True)

        def attend(query: Tensor, key: Tensor, value: Tensor, *_: object) -> Tensor:
            layer, group, (k_pages, v_pages) = next(calls)
            batch = groups[group]
            q, k, v = (_by_token(x, layer.head_dim) for x in (query, key, value))
            # transformers has normalised and rotated them already
            self._ops.prepare_qkv(q, k, v, None, None, batch.slots, k_pages, v_pages, batch.slots)
            out = self._ops.attention(
                q, k_pages, v_pages, batch, layer.scale, layer.window, layer.softcap
            )
            return out[None, :, :, : layer.value_dim]

        return attend

    def parts(self) -> None:
        """No kernel knows a transformers module."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [n, E] -> logits [n, V] float32."""
        made: Tensor = self._head(inputs_embeds=hidden[None], use_cache=False).logits
        return made[0].float()

    @torch.inference_mode()
    def verify(self) -> None:
        """Compare paged attention with transformers' own on a few tokens.

        Two sequences side by side, cut in two steps, must give what each gives alone and whole.

        Raises:
            UnsupportedModelError: they differ, with the figures: this architecture carries
                something from token to token that is not in the KV cache.
        """
        parameter = next(self.parameters())
        ids = torch.arange(1, 32, device=parameter.device) * 7919 % self.recipe.vocab_size
        first, second = ids[:21], ids[21:]
        shapes = [(4, layer.num_kv_heads, 16, layer.head_dim) for layer in self.recipe.layers]
        caches = [(parameter.new_zeros(shape), parameter.new_zeros(shape)) for shape in shapes]
        groups = max(self._groups) + 1
        begin = self.forward(_two(first[:13], 0, second[:3], 0, groups), caches)
        end = self.forward(_two(first[13:], 13, second[3:], 3, groups), caches)
        found = self.logits(torch.cat([begin[:13], end[:8], begin[13:], end[8:]]))
        expected = torch.cat([self._own_logits(first), self._own_logits(second)])
        error = ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).median()
        limit = TOLERANCE.get(parameter.dtype, 1e-1)
        if not error <= limit:
            raise UnsupportedModelError(
                f"{self.recipe.architecture} through paged attention differs from transformers' "
                f"own result by {float(error):.2g} (limit {limit:g}): its layers depend on more "
                "than positions, keys and values"
            )

    def _own_logits(self, ids: Tensor) -> Tensor:
        """Logits [T, V] float32 of one sequence by the model's own eager attention."""
        config: Any = self.model.config
        config._attn_implementation = "eager"
        try:
            positions = torch.arange(len(ids), device=ids.device)[None]
            output = self.model(input_ids=ids[None], position_ids=positions, use_cache=False)
        finally:
            config._attn_implementation = ATTENTION
        logits: Tensor = output.logits[0].float()
        return logits


def _by_token(x: Tensor, head_dim: int) -> Tensor:
    """[1, H, T, d] -> [T, H, head_dim], zeros behind where d is smaller (latent attention)."""
    x = x[0].transpose(0, 1)
    if x.shape[-1] < head_dim:
        return F.pad(x, (0, head_dim - x.shape[-1]))
    return x.contiguous()


class _Given(nn.Module):
    """Stands for a base model whose output is already known: its `inputs_embeds`."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self._real = [base]  # a list, so that it is no submodule

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._real[0], name)

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> "_GivenOutput":
        return _GivenOutput(inputs_embeds)


class _GivenOutput:
    """A base model's output with hidden states and nothing else: every other field is None."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _head_alone(model: Any) -> nn.Module:
    """`model` as a function of the final hidden states: its own scaling, head and soft caps.

    A shallow copy that shares every parameter and skips the base model.
    """
    head = copy.copy(model)
    head._modules = dict(model._modules)
    prefix = model.base_model_prefix
    head._modules[prefix] = _Given(model._modules[prefix])
    made: nn.Module = head
    return made


def load_fallback(
    recipe: FallbackRecipe,
    directory: Path,
    ops: Ops,
    dtype: torch.dtype,
    device: torch.device,
    load_format: str = "auto",
) -> FallbackModel:
    """The model with the weights in `directory`, read by transformers itself.

    With `accelerate` installed each tensor goes straight to a GPU; without it the model passes
    through host memory, one tensor at a time freed there.

    Raises:
        CheckpointError: tensors are missing or of the wrong shape, or a file cannot be read.
        UnsupportedModelError: paged attention would not give transformers' own result.
    """
    import transformers
    from transformers.utils import is_accelerate_available

    register()
    direct = device.type == "cpu" or is_accelerate_available()
    try:
        with _quiet_transformers():
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                directory,
                config=copy.deepcopy(recipe.config),
                dtype=dtype,
                attn_implementation=ATTENTION,
                use_safetensors={"safetensors": True, "pt": False}.get(load_format),
                trust_remote_code=recipe.trust_remote_code,
                local_files_only=True,
                output_loading_info=True,
                **({"device_map": {"": device}} if direct and device.type != "cpu" else {}),
            )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # readers, converters and constructors may raise anything
        raise CheckpointError(
            f"transformers {transformers.__version__} cannot load {directory}: {one_line(error)}"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(
            f"{directory} lacks tensors {', '.join(missing[:3])}{more}; the checkpoint is "
            "incomplete or its config.json is another model's"
        )
    made = FallbackModel(recipe, model.to(device), ops)
    made.verify()
    return made


def empty_fallback(
    recipe: FallbackRecipe, ops: Ops, dtype: torch.dtype, device: torch.device
) -> FallbackModel:
    """The model with undefined weights, to be filled by the caller."""
    with device:
        model = make_model(copy.deepcopy(recipe.config), dtype, recipe.trust_remote_code)
    return FallbackModel(recipe, model, ops)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """transformers' own progress bar and load report off: ours are elsewhere."""
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _two(first: Tensor, done_1: int, second: Tensor, done_2: int, num_groups: int) -> StepInputs:
    """Two sequences' next tokens side by side, on pages [0, 2) and [2, 4) of 16 tokens."""
    device = first.device
    lens = np.array([len(first), len(second)], dtype=np.int32)
    ends = lens + np.array([done_1, done_2], dtype=np.int32)
    positions = [*range(done_1, int(ends[0])), *range(done_2, int(ends[1]))]
    slots = [p + (0 if i < lens[0] else 32) for i, p in enumerate(positions)]

    def int32(values: object) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    batch = AttentionBatch(
        query_starts=int32([0, lens[0], lens.sum()]),
        seq_lens=int32(ends),
        rows=int32([0, 1]),
        page_table=int32([[0, 1], [2, 3]]),
        slots=torch.tensor(slots, device=device),
        page_size=16,
        host_query_lens=lens,
        host_seq_lens=ends,
        max_query_len=int(lens.max()),
        max_seq_len=int(ends.max()),
    )
    ids = torch.cat([first, second])
    return StepInputs(ids, torch.tensor(positions, device=device), (batch,) * num_groups)
