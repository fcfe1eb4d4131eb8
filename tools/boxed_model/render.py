"""The chat template, compiled the way transformers compiles it, and text to token ids with weights.

Rendering through `apply_chat_template` costs several times more per call, too slow for millions of
conversations; `make_tokenizer.py` checks that both give the same text.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

TEMPLATE_PATH = Path(__file__).with_name("chat_template.jinja")
IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


def _tojson(value: Any, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class Renderer:
    """Messages to text."""

    def __init__(self) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = _tojson
        self._template = environment.from_string(TEMPLATE_PATH.read_text(encoding="utf-8"))

    def __call__(
        self, messages: list[dict[str, Any]], tools: list[Any] | None, prompt: bool = False
    ) -> str:
        """The rendered conversation; with `prompt`, open for the assistant's answer."""
        return self._template.render(messages=messages, tools=tools, add_generation_prompt=prompt)


class Masker:
    """Marks the tokens the assistant produces: its text and the end-of-turn token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._start = tokenizer.token_to_id(IM_START)
        self._end = tokenizer.token_to_id(IM_END)
        self._header = tokenizer.encode("assistant\n").ids

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """ids: [n] token ids of one conversation. Returns [n] bool."""
        mask = np.zeros(len(ids), dtype=bool)
        ends = np.flatnonzero(ids == self._end)
        head = len(self._header)
        for start in np.flatnonzero(ids == self._start):
            if list(ids[start + 1 : start + 1 + head]) == self._header:
                after = ends[ends > start]
                stop = int(after[0]) + 1 if len(after) else len(ids)
                mask[start + 1 + head : stop] = True
        return mask
