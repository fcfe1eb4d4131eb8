"""Finding and opening a tokenizer.

A directory whose `tokenizer.json` is the whole truth (class `PreTrainedTokenizerFast` and nothing
that `transformers` would change on top) is opened with the `tokenizers` library alone, in
milliseconds. Everything else, and whenever in doubt, goes through `transformers.AutoTokenizer`.
`tests/unit/text/test_tokenizer.py` holds the two to the same ids and texts.
"""

import json
from pathlib import Path
from typing import Any

from quire.core.errors import (
    CheckpointError,
    ModelNotFoundError,
    QuireError,
    one_line,
)
from quire.text.tokenizer import HFTokenizer, Tokenizer, TokenizerFacts

# Classes that add nothing to tokenizer.json (the name before and since transformers 5).
_PLAIN_CLASSES = frozenset({"PreTrainedTokenizerFast", "TokenizersBackend"})

# The named special tokens, transformers' SPECIAL_TOKENS_ATTRIBUTES.
_NAMED = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def load_tokenizer(
    directory: Path, mode: str = "auto", *, trust_remote_code: bool = False
) -> Tokenizer:
    """Open the tokenizer in a directory; with `mode` "slow" the Python one where there is one.

    Raises:
        ModelNotFoundError: there is no tokenizer in it.
        CheckpointError: its files cannot be read.
    """
    if mode == "auto":
        tokenizer = _open_directly(directory, trust_remote_code)
        if tokenizer is not None:
            return tokenizer
    return _open_with_transformers(directory, mode, trust_remote_code)


def _open_directly(directory: Path, trust_remote_code: bool = False) -> Tokenizer | None:
    """The tokenizer from tokenizer.json alone, or None if that might not be all of it."""
    file, config = directory / "tokenizer.json", _read_config(directory)
    if not file.is_file() or config is None or not _is_plain(config, directory):
        return None
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"cannot read {file}: {one_line(error)}") from None
    named = _named_tokens(config)
    if not _agrees(backend, config, named):
        return None
    facts = TokenizerFacts(str(directory), named, _chat_template(directory, config))
    return Tokenizer(
        facts,
        backend=backend,
        load_hf=lambda: _transformers_tokenizer(directory, "auto", trust_remote_code),
    )


def _read_config(directory: Path) -> dict[str, Any] | None:
    config = _read_json(directory / "tokenizer_config.json")
    if config is None:
        return None
    if "added_tokens_decoder" not in config:
        # Only then does transformers let the older file speak.
        config.update(_read_json(directory / "special_tokens_map.json") or {})
    return config


def _is_plain(config: dict[str, Any], directory: Path) -> bool:
    """Whether nothing in the files asks for more than tokenizer.json."""
    return (
        config.get("tokenizer_class") in _PLAIN_CLASSES
        and not config.get("auto_map")
        and not config.get("split_special_tokens")
        and not (directory / "added_tokens.json").exists()
        and not (directory / "tekken.json").exists()
    )


def _named_tokens(config: dict[str, Any]) -> dict[str, str]:
    """The named special tokens, and the model's own `*_token` keys, as text."""
    extra = [k for k in config if k.endswith("_token") and not k.startswith("add_")]
    tokens = {}
    for name in dict.fromkeys([*_NAMED, *extra]):
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens


def _agrees(backend: Any, config: dict[str, Any], named: dict[str, str]) -> bool:
    """Whether tokenizer.json already holds what tokenizer_config.json says."""
    added = backend.get_added_tokens_decoder()
    special = {token.content for token in added.values() if token.special}
    extras = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    if isinstance(extras, dict):
        return False
    wanted = {*named.values(), *(t["content"] if isinstance(t, dict) else t for t in extras)}
    if not wanted <= special:
        return False
    for key, token in (config.get("added_tokens_decoder") or {}).items():
        mine = added.get(int(key))
        if mine is None or any(
            getattr(mine, name) != token.get(name, getattr(mine, name))
            for name in ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
        ):
            return False
    return _adds_as_told(backend, config, named)


def _adds_as_told(backend: Any, config: dict[str, Any], named: dict[str, str]) -> bool:
    """Whether the post-processor adds bos and eos just as add_bos_token and add_eos_token say."""
    if "add_bos_token" not in config and "add_eos_token" not in config:
        return True
    bos = [named["bos_token"]] if config.get("add_bos_token") and "bos_token" in named else []
    eos = [named["eos_token"]] if config.get("add_eos_token") and "eos_token" in named else []
    return bool(backend.encode("", add_special_tokens=True).tokens == bos + eos)


def _chat_template(directory: Path, config: dict[str, Any]) -> str | dict[str, str] | None:
    """chat_template.jinja, else the config's; several by name become a dict."""
    templates: dict[str, str] = {}
    value = config.get("chat_template")
    if isinstance(value, str):
        templates["default"] = value
    elif isinstance(value, dict):
        templates.update(value)
    elif isinstance(value, list):
        templates.update({entry["name"]: entry["template"] for entry in value})
    main = directory / "chat_template.jinja"
    others = sorted((directory / "additional_chat_templates").glob("*.jinja"))
    if main.is_file() or others:  # files, where there are any, replace the config's
        templates = {file.stem: file.read_text(encoding="utf-8") for file in others}
        if main.is_file():
            templates["default"] = main.read_text(encoding="utf-8")
    if list(templates) == ["default"]:
        return templates["default"]
    return templates or None


def _open_with_transformers(
    directory: Path, mode: str = "auto", trust_remote_code: bool = False
) -> Tokenizer:
    hf = _transformers_tokenizer(directory, mode, trust_remote_code)
    facts = TokenizerFacts(
        str(directory),
        {name: str(token) for name, token in hf.special_tokens_map.items() if token is not None},
        hf.chat_template or None,
    )
    if not getattr(hf, "is_fast", False):
        return Tokenizer(facts, slow=hf, load_hf=lambda: hf)
    from tokenizers import Tokenizer as Backend

    # A copy: a caller of `hf()` may switch truncation on in the shared backend.
    backend = Backend.from_str(hf.backend_tokenizer.to_str())
    backend.encode_special_tokens = hf.backend_tokenizer.encode_special_tokens
    return Tokenizer(facts, backend=backend, load_hf=lambda: hf)


def _transformers_tokenizer(directory: Path, mode: str, trust_remote_code: bool) -> HFTokenizer:
    from transformers import AutoTokenizer

    kwargs = {"use_fast": False} if mode == "slow" else {}
    try:
        return AutoTokenizer.from_pretrained(
            str(directory), trust_remote_code=trust_remote_code, **kwargs
        )
    except QuireError:
        raise
    except ImportError as error:
        raise ModelNotFoundError(
            f"the tokenizer of '{directory}' needs a package: {one_line(error)}"
        ) from None
    except Exception as error:  # transformers and its remote code raise anything
        raise ModelNotFoundError(_not_found(directory, error)) from None


def _not_found(directory: Path, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            f"the tokenizer of '{directory}' is code in the checkpoint;"
            " read it, then pass trust_remote_code=True (--trust-remote-code)"
        )
    return (
        f"no tokenizer could be loaded from directory '{directory}': {one_line(error)}; name"
        " another with tokenizer= (--tokenizer), or set skip_tokenizer_init=True and send token ids"
    )


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"cannot read {file}: not a JSON object")
    return value
