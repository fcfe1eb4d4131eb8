"""Names of the dtypes a model may be computed and its cache held in, as torch's. "auto" is resolved
before."""

import torch

_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
}


def torch_dtype(name: str) -> torch.dtype:
    """The dtype of a configuration that has been checked."""
    return _DTYPES[name]
