"""A model's name to a folder on this machine: the boxed model, a directory, or a Hub repository.

Small files (config, tokenizer, templates) come first, weights only when asked for. The Hub's
client keeps its own cache; nothing is written elsewhere. Imports no torch.
"""

import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from quire.core import env
from quire.core.config import BOXED_MODEL, ModelConfig
from quire.core.errors import CheckpointError, ModelNotFoundError, one_line
from quire.weights import files

logger = logging.getLogger("quire")

_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.jinja2"]
_CODE_FILES = ["*.py"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's (or a tokenizer's) files come from."""

    name: str
    revision: str | None = None
    download_dir: str | None = None
    token: str | None = None
    code: bool = False  # also fetch the repository's Python files

    @classmethod
    def of_model(cls, config: ModelConfig) -> "ModelSource":
        token = config.hf_token or env.hf_token()
        code = config.trust_remote_code
        return cls(config.model, config.revision, config.download_dir, token, code)

    @classmethod
    def of_tokenizer(cls, config: ModelConfig) -> "ModelSource":
        """The source of the tokenizer's files: the model's own unless another is named."""
        source = cls.of_model(config)
        if config.tokenizer is None or config.tokenizer == config.model:
            return source
        return replace(source, name=config.tokenizer, revision=config.tokenizer_revision)


def fetch_small_files(source: ModelSource, required: str = "config.json") -> Path:
    """The folder that holds everything of `source` but its weights.

    Raises:
        ModelNotFoundError: no such directory or repository, access refused, no network, or the
            file `required` is not in it.
    """
    local = _local_directory(source)
    if local is None:
        return _Hub(source).small_files(required)
    if not (local / required).is_file():
        raise ModelNotFoundError(
            f"{local} has no {required}; give the folder of a transformers model"
            + _hint_subfolders(local, required)
        )
    return local


def fetch_weights(source: ModelSource, load_format: str = "auto") -> Path:
    """The folder that holds the weight files of `source`, all of them present.

    Raises:
        ModelNotFoundError: as `fetch_small_files`.
        CheckpointError: there are no weights in a known format, or one is missing.
    """
    local = _local_directory(source)
    if local is not None:
        files.select_local(local, load_format)
        return local
    return _Hub(source).weights(load_format)


def _local_directory(source: ModelSource) -> Path | None:
    """The directory a name means, None if it can only be a Hub id."""
    name = source.name
    # os.path, not pathlib: a name that cannot be a path is no directory, and no exception.
    path = os.path.expanduser(name)
    if name and os.path.isdir(path):
        return Path(path).resolve()
    if name == BOXED_MODEL:
        return Path(__file__).resolve().parent.parent / "boxed"
    if os.path.isfile(path):
        raise ModelNotFoundError(
            f"{name} is a file; give the folder that holds it and its config.json"
        )
    # A Hub id is "owner/name" (or an old one-word name such as gpt2): no other slashes or dots.
    parts = name.split("/")
    looks_like_path = name.startswith((".", "/", "~", "\\")) or len(parts) > 2 or "" in parts
    if not name or looks_like_path:
        raise ModelNotFoundError(
            f"no such directory {name!r}, nor can it be a Hub id (owner/name); check the path"
        )
    return None


def _hint_subfolders(directory: Path, required: str) -> str:
    inside = sorted(p.parent.name for p in directory.glob(f"*/{required}"))
    return f" (perhaps {directory / inside[0]})" if inside else ""


class _Hub:
    """One repository on the Hub. Wraps `huggingface_hub`, and its errors in one line each."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._where = source.name + (f"@{source.revision}" if source.revision else "")
        self._offline = env.hub_offline()

    def small_files(self, required: str) -> Path:
        """Everything but weights; `required` first, for a quick and clear failure."""
        try:
            return self._small_files(required, self._answers(required))
        except Exception as error:
            self._refuse(error, required)

    def weights(self, load_format: str) -> Path:
        """Download what `files.select` chooses from the repository's own list."""
        import huggingface_hub

        try:
            online = self._answers("config.json")
            folder = self._small_files("config.json", online)
            if not online:
                # No list to be had: what an earlier run downloaded must be complete.
                files.select_local(folder, load_format)
                return folder
            chosen = files.select(
                huggingface_hub.HfApi(token=self._source.token).list_repo_files(
                    self._source.name, revision=self._source.revision
                ),
                load_format,
                lambda name: (folder / name).read_text(encoding="utf-8", errors="replace"),
                self._where,
            )
            return Path(
                huggingface_hub.snapshot_download(
                    self._source.name, allow_patterns=chosen, **self._options()
                )
            )
        except CheckpointError as error:
            if online:
                raise
            raise CheckpointError(f"{error}; the Hub was not asked (offline)") from None
        except Exception as error:
            self._refuse(error, "the weights")

    def _answers(self, required: str) -> bool:
        """Whether the Hub can be asked. One request: the client's own retries take 20 seconds.

        Raises the client's errors where the Hub answers and refuses.
        """
        import huggingface_hub

        if self._offline:
            return False
        name, revision = self._source.name, self._source.revision
        url = huggingface_hub.hf_hub_url(name, required, revision=revision)
        try:
            huggingface_hub.get_hf_file_metadata(url, token=self._source.token)
        except Exception as error:
            if not _no_connection(error):
                raise
            logger.debug("the Hub cannot be reached for %s: %s", self._where, error)
            return False
        return True

    def _small_files(self, required: str, online: bool) -> Path:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        folder = Path(
            huggingface_hub.snapshot_download(
                self._source.name,
                allow_patterns=[*_SMALL_FILES, *(_CODE_FILES if self._source.code else [])],
                ignore_patterns=["*/*"],
                local_files_only=not online,
                **self._options(),
            )
        )
        if not (folder / required).is_file():
            raise LocalEntryNotFoundError(f"{required} is not in the cache")
        return folder

    def _options(self) -> dict[str, str | None]:
        return {
            "revision": self._source.revision,
            "cache_dir": self._source.download_dir,
            "token": self._source.token,
        }

    def _refuse(self, error: Exception, wanted: str) -> NoReturn:
        raise ModelNotFoundError(self._explain(error, wanted)) from error

    def _explain(self, error: Exception, wanted: str) -> str:
        from huggingface_hub import errors as hub

        name, where = self._source.name, self._where
        if _disk_full(error):
            into = self._source.download_dir or "the Hub cache (HF_HOME)"
            return (
                f"the disk is full: {where} could not be downloaded into {into}; "
                "free some space or set --download-dir"
            )
        if isinstance(error, hub.GatedRepoError):
            return (
                f"{name} is gated: accept its licence at https://huggingface.co/{name} and set "
                "HF_TOKEN to a token of that account"
                + ("" if self._source.token else " (HF_TOKEN is not set)")
            )
        if isinstance(error, hub.RepositoryNotFoundError):
            private = "HF_TOKEN has no access to it" if self._source.token else "set HF_TOKEN"
            return (
                f"no model {name!r}: no such directory here, nor a Hub id; check the name "
                f"(if it is private: {private})"
            )
        if isinstance(error, hub.RevisionNotFoundError):
            return (
                f"{name} has no revision {self._source.revision!r}; "
                "leave out --revision or name a branch, tag or commit"
            )
        if isinstance(error, hub.HFValidationError):
            return (
                f"no model {name!r}: no such directory here, nor can it be a Hub id (owner/name); "
                "check the path"
            )
        if self._offline or isinstance(error, hub.OfflineModeIsEnabled):
            return (
                f"{where}: no such directory here, and {wanted} is not in the Hub cache while "
                "HF_HUB_OFFLINE=1 forbids downloading; unset it or give a local path"
            )
        if isinstance(error, hub.LocalEntryNotFoundError) or _no_connection(error):
            return (
                f"{where}: no such directory here, the Hub cannot be reached and {wanted} is not "
                "in its cache; check the network or give a local path "
                "(HF_HUB_OFFLINE=1 uses only the cache)"
            )
        if isinstance(error, hub.EntryNotFoundError):
            return f"{where} has no {wanted}: it is not a transformers model that Quire can read"
        return f"{where} could not be downloaded: {type(error).__name__}: {one_line(error)}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _disk_full(error: Exception) -> bool:
    return any(isinstance(e, OSError) and e.errno == errno.ENOSPC for e in _chain(error))


def _no_connection(error: Exception) -> bool:
    """No answer came at all. The Hub client's HTTP library (httpx or its successor) is not a
    dependency of ours, so its transport errors are known by name."""
    return isinstance(error, ConnectionError | TimeoutError) or any(
        cls.__name__ == "TransportError" and cls.__module__.startswith("httpx")
        for cls in type(error).__mro__
    )
