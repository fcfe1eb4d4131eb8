"""Quire: serving large language models. `from quire import LLM, SamplingParams`.

Names are imported on first use, so that `import quire` and `quire --help` do not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_EXPORTS = {
    "LLM": "quire.llm",
    "SamplingParams": "quire.core.sampling_params",
    "BeamSearchParams": "quire.core.sampling_params",
    "RequestOutput": "quire.core.outputs",
    "CompletionOutput": "quire.core.outputs",
}

__all__ = [
    "LLM",
    "BeamSearchParams",
    "CompletionOutput",
    "RequestOutput",
    "SamplingParams",
    "__version__",
]

if TYPE_CHECKING:
    from quire.core.outputs import CompletionOutput, RequestOutput
    from quire.core.sampling_params import BeamSearchParams, SamplingParams
    from quire.llm import LLM


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'quire' has no attribute {name!r}")
