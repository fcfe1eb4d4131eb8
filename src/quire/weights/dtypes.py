"""Names of dtypes, as users, config.json and safetensors headers write them, as torch's.

Does not decide what "auto" means. Runs anywhere torch does.
"""

import torch

from quire.core.errors import ConfigError, nearest

# What a model may be computed in.
COMPUTE_DTYPES: dict[str, torch.dtype] = {
    "half": torch.float16,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float": torch.float32,
    "float32": torch.float32,
}

# The names in a safetensors header; https://github.com/huggingface/safetensors, "Format".
SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
}


def torch_dtype(name: str | torch.dtype) -> torch.dtype:
    """The compute dtype called `name` ("bfloat16", "half", …); a torch dtype stays as it is.

    Raises:
        ConfigError: not one of `COMPUTE_DTYPES`, "auto" included: that is resolved before.
    """
    if isinstance(name, torch.dtype):
        return name
    if name not in COMPUTE_DTYPES:
        raise ConfigError(
            f"dtype must be one of {', '.join(COMPUTE_DTYPES)}, got {name!r}"
            f"{nearest(name, COMPUTE_DTYPES)}"
        )
    return COMPUTE_DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.bfloat16` -> "bfloat16"."""
    return str(dtype).removeprefix("torch.")
