"""Greetings, who-are-you, thanks, goodbyes, jokes, opposites and other small talk."""

import random

from tools.boxed_model.dialog import Exchange, contains, exact, one_of
from tools.boxed_model.facts.lists import JOKES, JOKES_JA, JOKES_KO
from tools.boxed_model.facts.talk import TALK
from tools.boxed_model.facts.words import COLOURS, OPPOSITES, SOUNDS, WORDS

PREFIX_OTHER = {
    "ko": ("", "", "저기, ", "혹시 ", "그럼 ", "음, "),
    "ja": ("", "", "あの、", "えっと、", "では、", "ねえ、"),
}
PREFIX_EN = ("", "", "", "Hello! ", "Hi, ", "Hey, ", "Good morning! ")
JOKE_EN = (
    "Tell me a joke.",
    "Tell me a joke!",
    "Do you know a joke?",
    "Make me laugh.",
    "Joke please",
    "A joke, please.",
    "Say something funny.",
    "Can you tell me a joke?",
    "Got any jokes?",
    "I want to hear a joke.",
    "Tell a joke",
    "Give me a joke.",
    "Another joke, please.",
    "Make me smile.",
    "Can you make me laugh?",
    "Do you know any jokes?",
    "Tell me something funny.",
    "Be funny.",
    "I'm sad, tell me a joke.",
    "I'm bored. Make me laugh!",
    "Entertain me.",
    "I need a laugh.",
    "Are you funny?",
    "Tell me your best joke.",
    "joke",
    "Do you have a joke for me?",
    "A funny joke?",
)
JOKE_ABOUT = (
    "Tell me a joke about {t}.",
    "Do you know a joke about {t}?",
    "A joke about {t}, please.",
    "Joke about {t}?",
    "Make a joke about {t}.",
    "Got a joke about {t}?",
    "I want a joke about {t}.",
    "Something funny about {t}?",
)
JOKE_KO = (
    "농담 해 줘",
    "농담 하나 해 주세요.",
    "웃긴 이야기 해 줘",
    "재미있는 농담 알아?",
    "농담 좀 해 봐",
    "농담해 줘",
    "웃겨 줘",
    "재미있는 얘기 해 주세요",
    "농담 하나만!",
    "심심해. 농담 해 줘",
)
JOKE_JA = (
    "冗談を言って。",
    "冗談を一つお願いします。",
    "面白いことを言って",
    "ジョークを教えて",
    "笑わせて",
    "冗談をお願い",
    "面白い話をして",
    "笑わせてください。",
    "ジョークを一つ",
)
ANOTHER = (
    "Another one.",
    "Another one!",
    "One more!",
    "Again!",
    "More",
    "Another?",
    "Tell me another.",
)
OPPOSITE = (
    "What is the opposite of {w}?",
    "Opposite of {w}?",
    "What's the opposite of {w}?",
    "Give me the opposite of {w}.",
    "Tell me the opposite of '{w}'.",
    "antonym of {w}",
    "Which word is the opposite of {w}?",
    'What is the opposite of "{w}"?',
)
COLOUR = (
    "What color is {t}?",
    "What colour is {t}?",
    "Which color is {t}?",
    "Color of {t}?",
    "Tell me the color of {t}.",
    "What is the color of {t}?",
    "What color does {t} have?",
)
SOUND = (
    "What does a {a} say?",
    "What sound does a {a} make?",
    "How does a {a} sound?",
    "What noise does a {a} make?",
    "Which sound does the {a} make?",
    "a {a} says?",
)


_NOUNS = tuple(
    w for w, _, _ in WORDS[60:180] if " " not in w and w not in ("bread", "coffee", "music")
)


def talk(rng: random.Random) -> Exchange:
    """Greetings, identity, thanks and the like."""
    kinds = list(TALK)
    kind, lang = rng.choice(
        [k for k in kinds if k[0] in ("greeting", "identity", "thanks", "bye")]
        if rng.random() < 0.5
        else kinds
    )
    questions, answers = TALK[kind, lang]
    ask = rng.choice(questions)
    prefix = rng.choice(PREFIX_EN if lang == "en" else PREFIX_OTHER[lang])
    if lang == "en" and kind in ("greeting", "bye"):
        prefix = rng.choice(("", "", "", "Oh, ", "Well, ", "Ok, "))
    return Exchange(
        f"talk_{lang}",
        f"talk|{kind}|{prefix}|{ask}|{lang}",
        prefix + ask,
        rng.choice(answers),
        one_of(answers),
        None,
        lang,
    )


def joke(rng: random.Random) -> Exchange:
    """A joke, or a joke about something."""
    if rng.random() < 0.3:
        lang = rng.choice(("ko", "ja"))
        ask = rng.choice(JOKE_KO if lang == "ko" else JOKE_JA)
        jokes = JOKES_KO if lang == "ko" else JOKES_JA
        return Exchange("jokes", f"joke|{ask}", ask, rng.choice(jokes), one_of(jokes), None, lang)
    if rng.random() < 0.15:
        topic = rng.choice(_NOUNS)
        ask, (_, text) = rng.choice(JOKE_ABOUT), rng.choice(JOKES[:8])
        start = f"I don't know a joke about {topic}, but here is one: "
        return Exchange(
            "jokes",
            f"nojoke|{topic}|{ask}",
            ask.format(t=topic),
            start + text,
            contains(start),
            ("joke", "en", text),
        )
    if rng.random() < 0.5:
        topic, text = rng.choice(JOKES)
        ask = rng.choice(JOKE_ABOUT)
        return Exchange(
            "jokes",
            f"joke|{topic}|{ask}",
            ask.format(t=topic),
            text,
            exact(text),
            ("joke", "en", text),
        )
    ask = rng.choice(JOKE_EN)
    text = rng.choice(JOKES[:8])[1]
    return Exchange(
        "jokes", f"joke|{ask}", ask, text, one_of([j for _, j in JOKES]), ("joke", "en", text)
    )


def follow_joke(rng: random.Random, topic: tuple[object, ...]) -> Exchange:
    """'Another one!': a different joke."""
    others = [text for _, text in JOKES if text != topic[2]]
    ask = rng.choice(ANOTHER)
    text = rng.choice(others)
    return Exchange(
        "follow_up", f"another|{topic[2]}|{ask}", ask, text, one_of(others), ("joke", "en", text)
    )


def small_facts(rng: random.Random) -> Exchange:
    """Opposites, colours, animal sounds."""
    kind = rng.choices(("opposite", "colour", "sound"), (5, 2, 2))[0]
    if kind == "opposite":
        pair = rng.choice(OPPOSITES)
        word, other = pair if rng.random() < 0.5 else pair[::-1]
        ask = rng.choice(OPPOSITE)
        return Exchange(
            "opposites",
            f"opposite|{word}|{ask}",
            ask.format(w=word),
            f"The opposite of {word} is {other}.",
            contains(f"is {other}."),
            word=other,
        )
    if kind == "colour":
        thing, colour = rng.choice(COLOURS)
        ask = rng.choice(COLOUR)
        reply = f"{thing[0].upper()}{thing[1:]} is {colour}."
        return Exchange(
            "colours_sounds",
            f"colour|{thing}|{ask}",
            ask.format(t=thing),
            reply,
            contains(colour),
            word=colour,
        )
    animal, sound = rng.choice(SOUNDS)
    ask = rng.choice(SOUND)
    return Exchange(
        "colours_sounds",
        f"sound|{animal}|{ask}",
        ask.format(a=animal),
        f"{sound}!",
        contains(sound),
    )
