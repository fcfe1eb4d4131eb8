"""Which reasoning parser a model needs, read from its chat template.

A template of a model that thinks names the tags: it writes the opening one, or cuts the thinking
out of earlier answers. Where the template opens the thinking itself, the prompt shows it, so one
parser serves models that always think and those that may.
"""

# The first whose every text is in the template.
_ROWS = (
    ("kimi_k2", ("</think>", "<|tool_calls_section_begin|>")),
    ("qwen3", ("</think>",)),
    ("seed_oss", ("</seed:think>",)),
    ("mistral", ("[/THINK]",)),
    ("granite", ("Here is my thought process:", "Here is my response:")),
)


def detect_reasoning_parser(chat_template: str) -> str | None:
    """The name of the parser for a model with this template; None if it shows no thinking."""
    for name, texts in _ROWS:
        if all(text in chat_template for text in texts):
            return name
    return None
