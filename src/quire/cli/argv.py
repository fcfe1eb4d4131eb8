"""A command line as vLLM's users write it, made regular before it is parsed.

--max_model_len 8k                      --max-model-len 8k
--served-model-name a b                 --served-model-name=["a", "b"]
--allowed-origins a --allowed-origins b --allowed-origins=["a", "b"]
--default-chat-template-kwargs.a.b 5    --default-chat-template-kwargs={"a": {"b": 5}}
--enforce-eager=false                   --no-enforce-eager
"""

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quire.core.option import Kind

_SWITCH = {"true": "--", "false": "--no-"}
_NEGATIVE = re.compile(r"-[0-9.]+")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def regular(args: Sequence[str], kinds: Mapping[str, Kind]) -> list[str]:
    """The same command line with each list and each JSON object in one argument.

    A list option takes all words up to the next flag. Its last one is MODEL after all if it looks
    like one, and nothing else on the line names a model.

    Args:
        kinds: how each known flag's value is written.
    """
    rest = deque(args)
    done: list[str] = []
    lists: dict[str, list[str]] = {}
    objects: dict[str, dict[str, Any]] = {}
    stray: list[str] | None = None  # the list whose last word may be MODEL
    model_named = False
    while rest and rest[0] != "--":
        arg = rest.popleft()
        if not _is_flag(arg):
            model_named = True
            done.append(arg)
            continue
        flag, equals, value = arg.partition("=")
        flag, dot, path = flag.partition(".")
        flag = flag[:2] + flag[2:].replace("_", "-")
        model_named = model_named or flag == "--model"
        kind = kinds.get(flag)
        if kind == "list":
            run = [value] if equals else []
            while rest and not _is_flag(rest[0]):
                run.append(rest.popleft())
            found = lists.setdefault(flag, [])
            found += [item for word in run for item in _items(word)]
            if len(run) > 1 and _looks_like_a_model(run[-1]):
                stray = found
        elif kind == "switch" and not dot:
            if not equals and rest and rest[0].lower() in _SWITCH:
                equals, value = "=", rest.popleft()
            prefix = _SWITCH.get(value.lower())
            done.append(f"{flag}{equals}{value}" if prefix is None else prefix + flag[2:])
        elif kind is None or (dot and kind != "json"):  # unknown: refused by the parser
            done.append(f"{flag}{dot}{path}{equals}{value}")
        else:
            if not equals:
                value = rest.popleft() if rest else ""
            if dot:
                _put(objects.setdefault(flag, {}), path.split("."), value)
            elif kind == "json" and isinstance(_json(value), dict):
                objects.setdefault(flag, {}).update(_json(value))
            elif equals or value:
                done += [flag, value]
            else:  # nothing was left for it
                done.append(flag)
    if stray and not model_named and len(rest) < 2:
        done.append(stray.pop())
    done += [f"{flag}={json.dumps(found)}" for flag, found in (lists | objects).items()]
    return [*done, *rest]


def _is_flag(arg: str) -> bool:
    return len(arg) > 1 and arg.startswith("-") and not _NEGATIVE.fullmatch(arg)


def _items(word: str) -> list[str]:
    parsed = _json(word) if word.lstrip().startswith("[") else None
    return [str(item) for item in parsed] if isinstance(parsed, list) else [word]


def _json(text: str) -> Any:
    """None if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _put(into: dict[str, Any], path: list[str], text: str) -> None:
    """Set into[path]: JSON where the text is some, else the text. `name+` appends to a list."""
    for name in path[:-1]:
        into = into.setdefault(name, {})
    value = text if _json(text) is None and text != "null" else _json(text)
    if path[-1].endswith("+"):
        into.setdefault(path[-1][:-1], []).append(value)
    else:
        into[path[-1]] = value


def _looks_like_a_model(word: str) -> bool:
    return Path(word).is_dir() or bool(_HUB_ID.fullmatch(word))
