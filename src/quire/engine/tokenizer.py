"""The tokenizer that an engine's config asks for, and what grammars need to know of it.

Used on both sides of the engine. Imports no torch.
"""

from pathlib import Path

from quire.core.config import EngineConfig
from quire.core.errors import RequestError
from quire.core.messages import ModelInfo
from quire.platform.host import num_cores
from quire.structured.grammars import Grammars
from quire.structured.vocabulary import Vocabulary
from quire.text.load import load_tokenizer
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
        directory, model.tokenizer_mode, trust_remote_code=model.trust_remote_code
    )


MAX_THREADS = 8


def open_grammars(config: EngineConfig, info: ModelInfo) -> Grammars | None:
    """The engine's grammars; None without a tokenizer. Nothing is loaded before the first
    request that needs it."""
    if config.model.skip_tokenizer_init:
        return None
    return Grammars(
        lambda: _vocabulary(config, info),
        timeout=config.structured.grammar_timeout,
        num_threads=min(MAX_THREADS, max(2, num_cores() // 2)),
        disable_any_whitespace=config.structured.compact_json,
    )


def special_token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Text -> id of the tokens that are never text."""
    return {
        text: i for i, text in tokenizer.added_tokens.items() if i in tokenizer.special_ids and text
    }


def vocabulary_of(
    tokenizer: Tokenizer, vocab_size: int, eos_token_ids: tuple[int, ...]
) -> Vocabulary:
    """The bytes of each token.

    Raises:
        RequestError: the tokenizer's tokens are not pieces of text.
    """
    pieces = tokenizer.pieces(skip_special_tokens=False)
    encode = tokenizer.continuation_encoder()
    if pieces is None or encode is None:
        raise RequestError(
            "structured outputs need a tokenizer whose tokens are pieces of text "
            "(byte-level BPE, or SentencePiece with byte fallback)",
            "structured_outputs",
        )
    own_eos = tokenizer.eos_token_id
    known = min(tokenizer.max_token_id + 1, vocab_size)
    return Vocabulary(
        tokens=[pieces[i] if i < known else b"" for i in range(vocab_size)],
        special_tokens=special_token_ids(tokenizer),
        eos_token_ids=(*eos_token_ids, *(() if own_eos is None else (own_eos,))),
        encode=encode,
    )


def _vocabulary(config: EngineConfig, info: ModelInfo) -> Vocabulary:
    tokenizer = open_tokenizer(config)
    assert tokenizer is not None, "without a tokenizer there are no grammars"
    return vocabulary_of(tokenizer, info.vocab_size, info.eos_token_ids)
