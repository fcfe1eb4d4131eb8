"""The tokenizer an engine's front end needs, found from the engine's config. Imports no torch."""

from pathlib import Path

from quire.core.config import EngineConfig
from quire.text.load import TokenizerSource, load_tokenizer
from quire.text.tokenizer import Tokenizer
from quire.weights.source import ModelSource, fetch_small_files


def open_tokenizer(config: EngineConfig) -> Tokenizer | None:
    """The model's tokenizer, or the one named instead; None with `skip_tokenizer_init`.

    Raises:
        ModelNotFoundError, CheckpointError: it is not there, or cannot be read.
    """
    model = config.model
    if model.skip_tokenizer_init:
        return None
    source = ModelSource.of_tokenizer(model)
    own = model.tokenizer is None or model.tokenizer == model.model
    if not own and Path(source.name).is_dir():
        directory = Path(source.name)
    else:
        directory = fetch_small_files(source, "config.json" if own else "tokenizer_config.json")
    return load_tokenizer(
        TokenizerSource(
            str(directory), model.tokenizer_mode, trust_remote_code=model.trust_remote_code
        )
    )
