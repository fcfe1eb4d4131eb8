"""Tool calls of earlier messages, as chat templates expect them.

OpenAI's API carries a call's arguments as JSON text; templates expect the object. What a model
once wrote may be no JSON: then the text is kept, or, where the template can only show an object,
wrapped in one. A conversation with such a message goes on.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

# `arguments|items` and `arguments.items()` fail on text.
_NEEDS_OBJECT = re.compile(r"arguments['\"]?\]?\s*(?:\|\s*items\b|\.items\(|\|\s*dictsort\b)")


@lru_cache(maxsize=64)
def template_needs_object(chat_template: str) -> bool:
    """Whether a template goes through the arguments of calls one by one.

    A variable set to the arguments is followed, as in `{% set args = call.arguments %}`.
    """
    if _NEEDS_OBJECT.search(chat_template):
        return True
    names = re.findall(r"set\s+(\w+)\s*=\s*[\w.\[\]'\"]*arguments\b", chat_template)
    return any(
        re.search(rf"\b{name}\s*(?:\|\s*items\b|\.items\(|\|\s*dictsort\b)", chat_template)
        for name in names
    )


def parsed_arguments(arguments: Any, as_object: bool = False) -> Any:
    """A call's arguments for a template: an object wherever possible.

    Args:
        as_object: text that is no JSON object comes as {"arguments": text}, not as it is.
    """
    if arguments is None:
        return {}
    if isinstance(arguments, str):
        value: Any = arguments
        if not arguments.strip():
            return {}
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, Mapping):
            return value
    if as_object and not isinstance(arguments, Mapping):
        return {"arguments": arguments}
    return arguments
