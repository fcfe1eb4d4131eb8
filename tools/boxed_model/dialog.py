"""What a skill yields (an `Exchange`, or a `Passage` of plain text), how it is judged, the split.

A skill is a function of a random generator. It knows nothing about the split: the composer draws
from it until the exchange's `key` falls on the wanted side, so no skill can leak by mistake.
"""

import json
import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

HELD_OUT_PERCENT = 4


@dataclass(frozen=True, slots=True)
class Check:
    """How an answer is judged.

    kind: `exact` (the whole text), `any` (the whole text, one of several), `all` (every substring),
    `quoted` (one of several substrings), `number` (last number in the text), `json` (equal
    after parsing), `json_keys` (an object with these keys),
    `long` (contains a word and has at least so many characters), `starts` (begins with one of
    several), `call` (one tool call with equal name and arguments).
    """

    kind: str
    want: Any


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user turn and what follows it, up to and including the assistant's last message.

    key identifies fact + phrasing before casing noise; topic is what a follow-up may refer to; word
    is the single word (or name) answered, which "Spell it" refers to; noise says whether the user's
    casing and punctuation may be changed without changing the task.
    """

    skill: str
    key: str
    user: str
    reply: str
    check: Check
    topic: tuple[Any, ...] | None = None
    lang: str = "en"
    word: str | None = None
    noise: bool = True
    # When set, replaces the plain user + assistant pair (tool calls).
    messages: tuple[Message, ...] = field(default=())

    def turns(self) -> list[Message]:
        """The chat messages of this exchange."""
        if self.messages:
            return [dict(m) for m in self.messages]
        return [
            {"role": "user", "content": self.user},
            {"role": "assistant", "content": self.reply},
        ]


@dataclass(frozen=True, slots=True)
class Passage:
    """Plain text without the chat template: a sentence or a few.

    opening is what a prompt would hold; rest is what follows, with its leading space. A key of None
    marks an open-ended opening, which has no right answer to hold out. alone: a document by itself;
    line: not a sentence, so it stands on a line of its own.
    """

    skill: str
    key: str | None
    opening: str
    rest: str
    check: Check
    lang: str = "en"
    alone: bool = False
    line: bool = False


Skill = Callable[[random.Random], Exchange]
PlainSkill = Callable[[random.Random], Passage]
FollowUp = Callable[[random.Random, tuple[Any, ...]], Exchange]


def is_held_out(key: str) -> bool:
    """True for about `HELD_OUT_PERCENT` of keys; stable over runs and machines."""
    return zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT


def contains(*parts: str) -> Check:
    """A check that every part occurs in the answer."""
    return Check("all", list(parts))


def one_of(options: list[str] | tuple[str, ...]) -> Check:
    """A check that the answer is one of these texts."""
    return Check("any", list(options))


def starts(*options: str) -> Check:
    """A check that the answer begins with one of these texts."""
    return Check("starts", list(options))


def exact(text: str) -> Check:
    """A check for exactly this text."""
    return Check("exact", text)


_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.S)


def passes(check: Check, answer: str) -> bool:
    """Whether an answer (special tokens removed, tool-call markers kept) is right."""
    answer = answer.strip()
    if check.kind == "exact":
        return answer == check.want
    if check.kind == "all":
        return "<tool_call>" not in answer and all(part in answer for part in check.want)
    if check.kind == "any":
        return answer in check.want
    if check.kind == "quoted":
        return any(part in answer for part in check.want)
    if check.kind == "long":
        part, length = check.want
        return part in answer and len(answer) >= length
    if check.kind == "starts":
        return answer.startswith(tuple(check.want))
    if check.kind == "number":
        numbers = re.findall(r"-?\d+", answer)
        return bool(numbers) and int(numbers[-1]) == check.want
    try:
        if check.kind == "json":
            return bool(json.loads(answer) == check.want)
        if check.kind == "json_keys":
            parsed = json.loads(answer)
            return isinstance(parsed, dict) and list(parsed) == check.want
        if check.kind == "call":
            found = _CALL.findall(answer)
            return len(found) == 1 and json.loads(found[0]) == check.want
    except json.JSONDecodeError:
        return False
    raise ValueError(f"unknown check kind {check.kind!r}")


def has_batchim(word: str) -> bool:
    """Whether a Korean word (or a number in digits) ends in a consonant, which picks particles."""
    last = next((c for c in reversed(word) if c.isalnum()), "가")
    if last.isdigit():
        return last in "013678"
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28 != 0
    return False


def josa(word: str, with_batchim: str, without: str) -> str:
    """The word with the particle its last sound asks for."""
    return word + (with_batchim if has_batchim(word) else without)


# Where a typing error does not change the task.
TYPO_SKILLS = (
    "talk",
    "jokes",
    "capitals",
    "arithmetic",
    "days",
    "units",
    "unknown",
    "memory",
    "stories",
)


def typo(rng: random.Random, text: str) -> str:
    """Swaps two letters, or drops one, inside one longer lower-case word."""
    words = text.split(" ")
    places = [
        i for i, w in enumerate(words) if len(w) > 3 and w.isascii() and w.isalpha() and w.islower()
    ]
    if not places:
        return text
    i = rng.choice(places)
    word, at = words[i], rng.randint(1, len(words[i]) - 3)
    swap = rng.random() < 0.5
    words[i] = word[:at] + (word[at + 1] + word[at] if swap else word[at]) + word[at + 2 :]
    return " ".join(words)


def vary(rng: random.Random, text: str, lang: str, skill: str = "") -> str:
    """People's casing and punctuation: drop marks, lower or upper case, a polite word in front."""
    if lang == "en":
        if skill.startswith(TYPO_SKILLS) and rng.random() < 0.05:
            text = typo(rng, text)
        roll = rng.random()
        if roll < 0.06:
            text = (
                rng.choice(
                    (
                        "Hey, ",
                        "Please tell me: ",
                        "Quick question: ",
                        "Ok, ",
                        "So, ",
                        "Hi! ",
                        "Um, ",
                        "Hello. ",
                        "Well, ",
                        "Now ",
                    )
                )
                + text
            )
        elif roll < 0.09:
            text = text.rstrip("?.!") + rng.choice((" please", ", please?", ", please", " pls"))
        roll = rng.random()
        if roll < 0.25:
            text = text.lower()
        elif roll < 0.27:
            text = text.upper()
    roll = rng.random()
    if roll < 0.25:
        text = text.rstrip("?.!。？！")
    elif roll < 0.30:
        text = text.rstrip() + rng.choice(("?", "!", " ", "??", "."))
    if lang == "ja" and rng.random() < 0.3:
        text = text.replace("?", "？")
    return text
