"""Which files of a model folder or repository are its weights. Names only; imports no torch.

Everything that is not `*.safetensors` or `pytorch_model*.bin` at the top level is left alone:
consolidated and original checkpoints, adapters, GGUF, ONNX, Flax and TensorFlow files.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from quire.core.errors import CheckpointError

SAFETENSORS_INDEX = "model.safetensors.index.json"
TORCH_INDEX = "pytorch_model.bin.index.json"
_NOT_WEIGHTS = re.compile(r"^(consolidated|adapter_|optimizer|training_|mm_projector)")
_OTHER_FORMATS = (".gguf", ".onnx", ".msgpack", ".h5", ".ot", ".pth", ".pt", ".npz", ".nemo")


def select(
    names: Iterable[str], load_format: str, read_text: Callable[[str], str], where: str
) -> list[str]:
    """The weight files among `names`, safetensors before torch's, in reading order.

    Args:
        names: every file of the model, relative to its root.
        load_format: "auto", "safetensors" or "pt".
        read_text: gives a named file's text (an index).
        where: the folder or repository, for messages.

    Raises:
        CheckpointError: there are none of that format, or an index is broken or names a file
            that is not there.
    """
    top = {name for name in names if "/" not in name}
    if load_format in ("auto", "safetensors"):
        found = _safetensors(top, read_text, where)
        if found:
            return found
    if load_format in ("auto", "pt"):
        found = _torch(top, read_text, where)
        if found:
            return found
    raise CheckpointError(_nothing(top, load_format, where))


def select_local(directory: Path, load_format: str) -> list[Path]:
    """`select` for a folder on this machine."""
    names = [entry.name for entry in directory.iterdir() if entry.is_file()]
    chosen = select(
        names,
        load_format,
        lambda name: (directory / name).read_text(encoding="utf-8", errors="replace"),
        str(directory),
    )
    return [directory / name for name in chosen]


def _safetensors(top: set[str], read_text: Callable[[str], str], where: str) -> list[str]:
    if "model.safetensors" in top:
        return ["model.safetensors"]
    if SAFETENSORS_INDEX in top:
        return _shards(SAFETENSORS_INDEX, top, read_text, where)
    found = {n for n in top if n.endswith(".safetensors") and not _NOT_WEIGHTS.match(n)}
    return sorted({n for n in found if n.startswith("model-")} or found)


def _torch(top: set[str], read_text: Callable[[str], str], where: str) -> list[str]:
    if "pytorch_model.bin" in top:
        return ["pytorch_model.bin"]
    if TORCH_INDEX in top:
        return _shards(TORCH_INDEX, top, read_text, where)
    return sorted(n for n in top if n.startswith("pytorch_model") and n.endswith(".bin"))


def _shards(index: str, top: set[str], read_text: Callable[[str], str], where: str) -> list[str]:
    try:
        weight_map = json.loads(read_text(index))["weight_map"]
        shards = sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{where}/{index} is not a checkpoint index ({error!r}); download it again"
        ) from None
    missing = [name for name in shards if name not in top]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(
            f"weight file {missing[0]}{more} is missing from {where}: {index} names "
            f"{len(shards)} files; download the missing ones"
        )
    return shards


def _nothing(top: set[str], load_format: str, where: str) -> str:
    wanted = {
        "safetensors": "*.safetensors (load_format='safetensors')",
        "pt": "pytorch_model*.bin (load_format='pt')",
    }.get(load_format, "*.safetensors or pytorch_model*.bin")
    others = sorted(n for n in top if n.endswith((*_OTHER_FORMATS, ".safetensors", ".bin")))
    seen = f"; it has {others[0]}" if others else ""
    if len(others) > 1:
        seen += f" and {len(others) - 1} more files"
    if any(n.endswith(".gguf") for n in others):
        seen += ", and GGUF is not supported yet"
    return f"no weight files in {where}: looked for {wanted}{seen}"
