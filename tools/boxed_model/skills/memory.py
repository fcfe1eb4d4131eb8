"""Things the user said earlier: a name, a colour, a number, a pet. Told, asked for, or never told."""

import random

from tools.boxed_model.dialog import Exchange, contains, exact
from tools.boxed_model.facts.lists import NAMES, NAMES_JA, NAMES_KO
from tools.boxed_model.facts.words import PLAIN_COLOURS

# kind: (telling, acknowledgement, asking, answer, answer when never told)
KINDS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...], str, str]] = {
    "name": (
        (
            "My name is {v}.",
            "I'm {v}.",
            "I am {v}",
            "Call me {v}.",
            "Hi, I'm {v}!",
            "Hello, my name is {v}.",
            "You can call me {v}.",
            "my name is {v}, nice to meet you",
        ),
        "Nice to meet you, {v}!",
        (
            "What is my name?",
            "What's my name?",
            "Do you remember my name?",
            "Who am I?",
            "Tell me my name.",
            "Can you tell me my name?",
            "Do you know my name?",
        ),
        "Your name is {v}.",
        "You haven't told me your name.",
    ),
    "color": (
        (
            "My favorite color is {v}.",
            "I like the color {v}.",
            "I love {v}, it's my favorite color.",
        ),
        "{V} is a nice color!",
        (
            "What is my favorite color?",
            "What's my favorite color?",
            "Which color do I like?",
            "Do you remember my favorite color?",
        ),
        "Your favorite color is {v}.",
        "You haven't told me your favorite color.",
    ),
    "number": (
        (
            "Remember the number {v}.",
            "My number is {v}.",
            "Please remember {v}.",
            "Keep in mind: {v}",
            "The secret number is {v}.",
        ),
        "I'll remember {v}.",
        (
            "What was the number?",
            "What number did I tell you?",
            "Which number should you remember?",
            "Do you remember the number?",
            "What is the number?",
        ),
        "The number is {v}.",
        "You haven't told me a number.",
    ),
    "name_ko": (
        ("제 이름은 {v}입니다.", "저는 {v}예요.", "내 이름은 {v}야."),
        "만나서 반가워요, {v} 님!",
        ("제 이름이 뭐예요?", "내 이름이 뭐야?", "제 이름을 기억해요?"),
        "이름은 {v}입니다.",
        "아직 이름을 알려 주지 않으셨어요.",
    ),
    "name_ja": (
        ("私の名前は{v}です。", "{v}と申します。", "私は{v}です。"),
        "はじめまして、{v}さん!",
        ("私の名前は何ですか?", "私の名前を覚えていますか?", "私の名前は?"),
        "お名前は{v}です。",
        "まだお名前を聞いていません。",
    ),
}


def _value(rng: random.Random, kind: str) -> str:
    if kind == "name":
        if rng.random() < 0.3:
            return "".join(
                rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))
            ).capitalize()
        return rng.choice(NAMES)
    if kind == "color":
        return rng.choice(PLAIN_COLOURS)
    if kind == "number":
        return str(rng.randint(0, 9999))
    return rng.choice(NAMES_KO if kind == "name_ko" else NAMES_JA)


def _lang(kind: str) -> str:
    return kind[-2:] if "_" in kind else "en"


def tell(rng: random.Random, kind: str) -> tuple[Exchange, str]:
    """The user tells something; returns the value too."""
    value = _value(rng, kind)
    asks, reply = KINDS[kind][:2]
    ask = rng.choice(asks)
    text = reply.format(v=value, V=value.capitalize())
    return Exchange(
        "memory",
        f"tell|{ask}|{value}",
        ask.format(v=value),
        text,
        contains(value),
        None,
        _lang(kind),
        noise=False,
    ), value


def recall(rng: random.Random, kind: str, value: str) -> Exchange:
    """The user asks for what was told."""
    ask = rng.choice(KINDS[kind][2])
    return Exchange(
        "memory",
        f"recall|{ask}|{value}",
        ask,
        KINDS[kind][3].format(v=value),
        contains(value),
        None,
        _lang(kind),
        value if kind in ("name", "color") else None,
    )


def never_told(rng: random.Random) -> Exchange:
    """The user asks for what was never told."""
    kind = rng.choice(tuple(KINDS))
    prefix = rng.choice(("", "", "Hello! ", "Hi. ")) if _lang(kind) == "en" else ""
    ask = rng.choice(KINDS[kind][2])
    return Exchange(
        "memory",
        f"untold|{prefix}|{ask}",
        prefix + ask,
        KINDS[kind][4],
        exact(KINDS[kind][4]),
        None,
        _lang(kind),
    )
