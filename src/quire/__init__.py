"""Quire: serving large language models. `from quire import LLM, SamplingParams`.

Names are imported on first use, so that `import quire` and `quire --help` do not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_EXPORTS = {
    "LLM": "quire.llm",
    "SamplingParams": "quire.core.sampling_params",
    "StructuredOutputsParams": "quire.core.structured_outputs",
    "BeamSearchParams": "quire.core.sampling_params",
    "PoolingParams": "quire.core.pooling_params",
    "RequestOutput": "quire.core.outputs",
    "CompletionOutput": "quire.core.outputs",
    "EmbeddingRequestOutput": "quire.core.outputs",
    "PoolingRequestOutput": "quire.core.outputs",
    "ScoringRequestOutput": "quire.core.outputs",
}

__all__ = [
    "LLM",
    "BeamSearchParams",
    "CompletionOutput",
    "EmbeddingRequestOutput",
    "PoolingParams",
    "PoolingRequestOutput",
    "RequestOutput",
    "SamplingParams",
    "ScoringRequestOutput",
    "StructuredOutputsParams",
    "__version__",
]

if TYPE_CHECKING:
    from quire.core.outputs import (
        CompletionOutput,
        EmbeddingRequestOutput,
        PoolingRequestOutput,
        RequestOutput,
        ScoringRequestOutput,
    )
    from quire.core.pooling_params import PoolingParams
    from quire.core.sampling_params import BeamSearchParams, SamplingParams
    from quire.core.structured_outputs import StructuredOutputsParams
    from quire.llm import LLM


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        import_module("quire.core.env").calm_threads()
        with import_module("quire.core.garbage").kept_from_collection():
            value: object = getattr(import_module(_EXPORTS[name]), name)
        globals()[name] = value  # asked for once
        return value
    raise AttributeError(f"module 'quire' has no attribute {name!r}")
