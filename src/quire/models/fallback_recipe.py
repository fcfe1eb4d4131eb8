"""What a transformers model without a recipe needs of the engine, found by running it on nothing.

The model is built on torch's meta device, which has shapes and no memory, and given four tokens:
every call of the registered attention function tells one layer's heads, scale and window. What
the config says is only checked against that. Architectures whose attention never calls the
function, or whose layers keep other state than keys and values, are refused here.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quire.core.errors import UnsupportedModelError, one_line
from quire.core.kv_spec import KVDtype, KVGroup
from quire.models.recipe import group_by_window

ATTENTION = "quire_paged"  # the name under which transformers finds `paged_attention`
_STEPS = "quire_steps"  # the attribute of a model's modules that holds its `Steps`
_LAYER_TYPES = {"full_attention", "sliding_attention", "attention"}
_DTYPES = {"float32", "float16", "bfloat16"}
# Keywords of an attention call whose meaning paged attention has no place for.
_UNSUPPORTED = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "position_bias": "a position bias in attention",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}


@dataclass(frozen=True, slots=True)
class FallbackLayer:
    """One attention call. `head_dim` is the wider of keys and values, the cache's width."""

    num_kv_heads: int
    head_dim: int
    value_dim: int
    scale: float
    window: int | None
    softcap: float | None


@dataclass(frozen=True, slots=True)
class FallbackRecipe:
    """The part of a `Recipe` that the engine reads, for a model run through transformers."""

    architecture: str
    vocab_size: int
    hidden_size: int
    max_position: int
    layers: tuple[FallbackLayer, ...]
    dtype: str
    num_parameters: int
    config: Any  # transformers' own config object
    trust_remote_code: bool = False

    def kv_groups(self, dtype: KVDtype = "bfloat16") -> tuple[KVGroup, ...]:
        """Layers grouped by attention window, full attention first, then by window size."""
        return group_by_window(self.layers, dtype)


# One layer's attention: (query [1, H, T, D], key [1, K, T, D], value [1, K, T, Dv], scale,
# window, softcap) -> [1, T, H, Dv].
Attend = Callable[[Tensor, Tensor, Tensor, float | None, int | None, float | None], Tensor]


class Steps:
    """Where one model's attention calls find the step of the forward that is running.

    Set on every module of the model, because not every transformers model passes unknown
    keywords from its forward down to its attention. One forward at a time.
    """

    __slots__ = ("attend",)

    def __init__(self, model: nn.Module) -> None:
        self.attend: Attend | None = None
        for module in model.modules():
            setattr(module, _STEPS, self)


def paged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function registered as transformers' attention implementation; T tokens, batch 1.

    Raises:
        UnsupportedModelError: the model asks for more than plain causal attention.
    """
    attend: Attend | None = getattr(module, _STEPS).attend
    if attend is None:
        raise UnsupportedModelError("its head cannot be run apart from its layers")
    for keyword, meaning in _UNSUPPORTED.items():
        if kwargs.get(keyword) is not None:
            raise UnsupportedModelError(f"it uses {meaning}")
    if attention_mask is not None:
        raise UnsupportedModelError("it makes an attention mask of its own")
    causal = kwargs.get("is_causal")
    if causal is False or (causal is None and getattr(module, "is_causal", True) is False):
        raise UnsupportedModelError("its attention is not causal")
    if query.ndim != 4 or key.ndim != 4 or query.shape[0] != 1:
        raise UnsupportedModelError("its attention does not take [1, H, T, D] tensors")
    return attend(query, key, value, scaling, sliding_window, softcap), None


def fallback_recipe(
    directory: Path, hf_config: Mapping[str, Any], *, trust_remote_code: bool = False
) -> FallbackRecipe:
    """The recipe of the model in `directory`, without its weights.

    Raises:
        UnsupportedModelError: transformers cannot build it, or Quire cannot run it, and why.
    """
    architecture = str((hf_config.get("architectures") or [hf_config.get("model_type")])[0])
    try:
        config = _read_config(directory, hf_config, trust_remote_code)
        with torch.device("meta"):
            # A copy, because building writes the dtype and the attention into the config.
            model = make_model(copy.deepcopy(config), torch.bfloat16, trust_remote_code)
        layers = _discover(model, config)
        vocab_size, hidden_size = _head_shape(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{architecture} cannot run through transformers with paged attention: {error}"
        ) from None
    text = config.get_text_config(decoder=True)
    dtype = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    return FallbackRecipe(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        max_position=_max_position(text),
        layers=layers,
        dtype=dtype if dtype in _DTYPES else "float32",
        num_parameters=sum(p.numel() for p in model.parameters()),
        config=config,
        trust_remote_code=trust_remote_code,
    )


def make_model(config: Any, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """transformers' causal language model of `config`, its weights undefined.

    Raises:
        UnsupportedModelError: transformers cannot build it, with its reason.
    """
    import transformers
    from transformers import initialization

    register()
    try:
        with initialization.no_init_weights():
            model = transformers.AutoModelForCausalLM.from_config(
                config,
                dtype=dtype,
                attn_implementation=ATTENTION,
                trust_remote_code=trust_remote_code,
            )
    except Exception as error:  # a model's own constructor may raise anything
        if isinstance(error, KeyError) and error.args == (ATTENTION,):
            raise UnsupportedModelError("its attention cannot be replaced") from error
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} cannot build it ({one_line(error)})"
        ) from error
    return model.eval()


def register() -> None:
    """Make `paged_attention` known to transformers. Doing it again changes nothing.

    No mask function is registered under the name, so that models make no mask for it.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, paged_attention)


def base_of(model: Any) -> nn.Module:
    """The part of a causal language model that ends with the final norm."""
    base = getattr(model, model.base_model_prefix, None)
    if not isinstance(base, nn.Module) or base is model:
        raise UnsupportedModelError("it has no base model below its head")
    names = inspect.signature(base.forward).parameters
    for name in ("input_ids", "position_ids", "use_cache"):
        if name not in names:
            raise UnsupportedModelError(f"its forward takes no {name}")
    return base


def _discover(model: Any, config: Any) -> tuple[FallbackLayer, ...]:
    """Every attention call of one forward, in order."""
    layers: list[FallbackLayer] = []

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        (_, heads, tokens, width), value_dim = query.shape, value.shape[-1]
        scale = width**-0.5 if scale is None else float(scale)
        kv_heads, widest = key.shape[1], max(width, value_dim)
        layers.append(FallbackLayer(kv_heads, widest, value_dim, scale, window, softcap))
        return query.new_empty(1, tokens, heads, value_dim)

    tokens = torch.zeros(1, 4, dtype=torch.long, device="meta")
    Steps(model).attend = attend
    try:
        with torch.inference_mode():
            base_of(model)(input_ids=tokens, position_ids=tokens, use_cache=False)
    except UnsupportedModelError:
        raise
    except Exception as error:  # a model's own forward may raise anything
        raise UnsupportedModelError(f"its forward fails ({one_line(error)})") from error
    text = config.get_text_config(decoder=True)
    expected = int(text.num_hidden_layers)
    if not layers:
        raise UnsupportedModelError("its attention cannot be replaced")
    if len(layers) < expected:
        raise UnsupportedModelError(
            f"{len(layers)} of its {expected} layers use attention that can be replaced; "
            "the others keep a state there is no cache for"
        )
    _check_layer_types(text, layers)
    return tuple(layers)


def _check_layer_types(text: Any, layers: list[FallbackLayer]) -> None:
    """The config must not promise a window or a pattern that the attention calls do not ask for."""
    types = getattr(text, "layer_types", None) or []
    strange = sorted({str(kind) for kind in types} - _LAYER_TYPES)
    if strange:
        raise UnsupportedModelError(f"it has layers of type {', '.join(strange)}")
    if getattr(text, "attention_chunk_size", None):
        raise UnsupportedModelError("it uses chunked attention")
    if len(types) == len(layers):
        for index, (kind, layer) in enumerate(zip(types, layers)):
            if (kind == "sliding_attention") != (layer.window is not None):
                raise UnsupportedModelError(
                    f"its layer {index} is of type {kind} but asks for window {layer.window}"
                )


def _read_config(directory: Path, hf_config: Mapping[str, Any], trust_remote_code: bool) -> Any:
    import transformers

    if hf_config.get("is_encoder_decoder"):
        raise UnsupportedModelError("it is an encoder-decoder model; Quire runs decoders")
    if hf_config.get("auto_map") and not trust_remote_code:
        known = hf_config.get("model_type") in transformers.CONFIG_MAPPING
        if not known:
            raise UnsupportedModelError(
                "this checkpoint needs Python code of its own; read it, then pass "
                "trust_remote_code=True (--trust-remote-code)"
            )
    try:
        return transformers.AutoConfig.from_pretrained(
            directory, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:  # a config class may raise anything
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} cannot read this config.json: "
            f"{one_line(error)}"
        ) from error


def _head_shape(model: Any) -> tuple[int, int]:
    """(V, E) of the matrix from hidden states to logits."""
    weight = getattr(model.get_output_embeddings(), "weight", None)
    if weight is None:
        raise UnsupportedModelError("it has no matrix from hidden states to logits")
    vocab_size, hidden_size = weight.shape
    return vocab_size, hidden_size


def _max_position(text: Any) -> int:
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(value := getattr(text, name, None), int) and value > 0:
            return value
    return 2048
