"""Work on text: spelling, reversing, counting, sorting, casing, repeating."""

import random
import string

from tools.boxed_model.dialog import Check, Exchange, exact
from tools.boxed_model.facts.countries import COUNTRIES
from tools.boxed_model.facts.lists import NAMES
from tools.boxed_model.facts.words import LONGER_WORDS, SPELL_WORDS, WORDS

# Capitals, countries and people's names are spelled too; a few random strings teach the letters.
NAMES_TO_SPELL = tuple(
    sorted(
        {n for c in COUNTRIES for n in (c.en[0], c.capital_en) if n.isalpha() and n.isascii()}
        | set(NAMES)
    )
)
PLAIN = tuple(w for w, _, _ in WORDS if " " not in w) + LONGER_WORDS
SPELL = (
    "Spell {w}.",
    "How do you spell {w}?",
    "Spell the word {w}.",
    "Spell '{w}'.",
    "spell {w}",
    "Can you spell {w}?",
    "Please spell {w}.",
    'How is "{w}" spelled?',
    "Spell out {w}.",
    "What are the letters of {w}?",
    "List the letters in {w}.",
    "Letters of '{w}'?",
    "How is {w} written?",
    "Spell {w} letter by letter.",
    "spelling of {w}?",
    "Which letters are in {w}?",
    "Could you spell {w} for me?",
)
REVERSE = (
    "Spell {w} backwards.",
    "Reverse the word {w}.",
    "Write {w} backwards.",
    "Reverse '{w}'.",
    "What is {w} backwards?",
    "What is {w} spelled backwards?",
    "Reverse {w}",
)
LENGTH = (
    "How many letters are in {w}?",
    "How many letters does {w} have?",
    "Count the letters in {w}.",
    "How long is the word {w}?",
    "Number of letters in '{w}'?",
    "letters in {w}?",
)
COUNT_LETTER = (
    "How many {l}'s are in {w}?",
    "How many {l} are in '{w}'?",
    "Count the letter {l} in {w}.",
    "How many times does {l} appear in {w}?",
    "How often is {l} in the word {w}?",
)
FIRST = (
    "What is the first letter of {w}?",
    "First letter of {w}?",
    "Which letter does {w} start with?",
)
LAST = ("What is the last letter of {w}?", "Last letter of {w}?", "Which letter does {w} end with?")
COUNT_WORDS = (
    'How many words are in "{s}"?',
    "Count the words: {s}",
    "How many words: {s}",
    "Count the words in '{s}'.",
    "How many words does this have: {s}",
)
SORT_NUMBERS = (
    "Sort these numbers: {s}",
    "Sort {s}",
    "Put these numbers in order: {s}",
    "Sort from smallest to largest: {s}",
    "Order these numbers: {s}",
    "Sort the numbers {s} in ascending order.",
    "Can you sort {s}?",
)
SORT_DOWN = (
    "Sort from largest to smallest: {s}",
    "Sort {s} in descending order.",
    "Sort these numbers in descending order: {s}",
    "Put in descending order: {s}",
)
SORT_WORDS = (
    "Sort these words: {s}",
    "Sort alphabetically: {s}",
    "Put these words in alphabetical order: {s}",
    "Sort the words {s}",
    "Alphabetize: {s}",
    "Order these words alphabetically: {s}",
)
EXTREME = (
    ("What is the largest of {s}?", max),
    ("Which is the biggest: {s}?", max),
    ("What is the smallest of {s}?", min),
    ("Which is the smallest: {s}?", min),
    ("Maximum of {s}?", max),
    ("Minimum of {s}?", min),
)
REPEAT = (
    "Repeat after me: {s}",
    "Repeat: {s}",
    "Say: {s}",
    "Echo: {s}",
    "Repeat this: {s}",
    "Say exactly this: {s}",
    "Write this: {s}",
    "Copy this text: {s}",
    'Say "{s}"',
)
UPPER = (
    "Write {s} in capital letters.",
    "Uppercase: {s}",
    "Make this uppercase: {s}",
    "Convert to uppercase: {s}",
    "Put this in capitals: {s}",
)
LOWER = ("Lowercase: {s}", "Make this lowercase: {s}", "Convert to lowercase: {s}")
WORD_AT = (
    ("What is the first word of: {s}", 0),
    ("What is the last word of: {s}", -1),
    ("First word: {s}", 0),
    ("Last word: {s}", -1),
    ("What is the second word of: {s}", 1),
)
FLIP = (
    "Reverse the order of these words: {s}",
    "Write these words in reverse order: {s}",
    "Reverse the list: {s}",
)
SPELL_IT = (
    "Spell it.",
    "Can you spell it?",
    "Spell that.",
    "How do you spell it?",
    "spell it",
    "Spell that word.",
    "How do you spell that?",
    "Please spell it.",
    "Can you spell that?",
    "And how is it spelled?",
)
BACK_IT = ("Spell it backwards.", "And backwards?", "Reverse it.", "Spell that backwards.")
LENGTH_IT = (
    "How many letters does it have?",
    "How many letters are in it?",
    "How long is it?",
    "How many letters does that have?",
    "How many letters is that?",
    "Count its letters.",
)


def letters(word: str) -> str:
    """The letters of a word, capital, joined by hyphens; of a name of several words, word by word."""
    return " ".join("-".join(c for c in part.upper() if c.isalnum()) for part in word.split())


def spelling(rng: random.Random) -> Exchange:
    """Spell, reverse, count letters, first and last letter."""
    word = rng.choice(SPELL_WORDS) if rng.random() < 0.6 else rng.choice(NAMES_TO_SPELL)
    if rng.random() < 0.1:
        word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 7)))
    roll = rng.random()
    if roll < 0.4:
        ask, reply = rng.choice(SPELL), letters(word)
        return Exchange(
            "spelling", f"spell|{word}|{ask}", ask.format(w=word), reply, exact(reply), word=word
        )
    if roll < 0.58:
        ask, reply = rng.choice(REVERSE), letters(word[::-1])
        return Exchange(
            "spelling_reverse",
            f"spell|{word}|{ask}",
            ask.format(w=word),
            reply,
            exact(reply),
            word=word,
        )
    if roll < 0.76:
        ask = rng.choice(LENGTH)
        return Exchange(
            "letter_count",
            f"spell|{word}|{ask}",
            ask.format(w=word),
            f"{letters(word)}: {len(word)} letters.",
            Check("number", len(word)),
            word=word,
        )
    if roll < 0.9:
        letter = rng.choice(word.lower() if rng.random() < 0.8 else string.ascii_lowercase)
        ask = rng.choice(COUNT_LETTER)
        n = word.lower().count(letter)
        return Exchange(
            "letter_count",
            f"spell|{word}|{letter}|{ask}",
            ask.format(w=word, l=letter),
            f"{letters(word)}: {n}",
            Check("number", n),
            word=word,
        )
    first = rng.random() < 0.5
    ask = rng.choice(FIRST if first else LAST)
    reply = (word[0] if first else word[-1]).upper()
    return Exchange(
        "spelling", f"spell|{word}|{ask}", ask.format(w=word), reply, exact(reply), word=word
    )


def follow_spelled(rng: random.Random, word: str, topic: tuple[object, ...] | None) -> Exchange:
    """'Spell it', 'And backwards?', 'How many letters?' about the word just answered.

    The topic stays, so that the talk can go back to it.
    """
    kind = rng.choice((0, 0, 2) if " " in word else (0, 0, 1, 2, 2))
    ask = rng.choice((SPELL_IT, BACK_IT, LENGTH_IT)[kind])
    said = letters(word)
    count = sum(c.isalnum() for c in word)
    reply = (said, said[::-1], f"{said}: {count} letter{'s' if count > 1 else ''}.")[kind]
    check = Check("number", count) if kind == 2 else exact(reply)
    return Exchange("follow_up_spelling", f"it|{word}|{ask}", ask, reply, check, topic, word=word)


def _numbers(rng: random.Random) -> list[int]:
    top = rng.choice((9, 20, 99, 99))
    return rng.sample(range(top + 1), rng.randint(3, 6))


def _phrase(rng: random.Random, low: int = 2, high: int = 6) -> list[str]:
    return [
        rng.choice(PLAIN + NAMES) if rng.random() < 0.9 else str(rng.randint(0, 999))
        for _ in range(rng.randint(low, high))
    ]


def _noise_word(rng: random.Random) -> str:
    return "".join(
        rng.choice(string.ascii_letters + string.digits) for _ in range(rng.randint(3, 8))
    )


def ordering(rng: random.Random) -> Exchange:
    """Sorting numbers and words, largest and smallest, counting words."""
    roll = rng.random()
    if roll < 0.45:
        values = _numbers(rng)
        shown = rng.choice((", ", " ", ",")).join(map(str, values))
        if roll < 0.12:
            ask, pick = rng.choice(EXTREME)
            return Exchange(
                "sorting",
                f"extreme|{values}|{ask}",
                ask.format(s=shown),
                f"{pick(values)}",
                exact(f"{pick(values)}"),
            )
        down = roll > 0.35
        ask = rng.choice(SORT_DOWN if down else SORT_NUMBERS)
        reply = ", ".join(map(str, sorted(values, reverse=down)))
        return Exchange("sorting", f"sort|{values}|{ask}", ask.format(s=shown), reply, exact(reply))
    if roll < 0.75:
        words = list(dict.fromkeys(rng.choice(PLAIN) for _ in range(rng.randint(3, 5))))
        shown = rng.choice((", ", " ")).join(words)
        ask, reply = rng.choice(SORT_WORDS), ", ".join(sorted(words))
        return Exchange("sorting", f"sort|{words}|{ask}", ask.format(s=shown), reply, exact(reply))
    words = _phrase(rng, 1, 8)
    ask = rng.choice(COUNT_WORDS)
    count = len(words)
    return Exchange(
        "word_count",
        f"count|{words}",
        ask.format(s=" ".join(words)),
        f"{count} word{'s' if count > 1 else ''}.",
        Check("number", count),
        noise=False,
    )


def copying(rng: random.Random) -> Exchange:
    """Repeat, change case, pick a word, reverse a list: all need the exact words of the prompt."""
    words = _phrase(rng)
    if rng.random() < 0.25:
        words[rng.randrange(len(words))] = _noise_word(rng)
    if rng.random() < 0.15:
        words = [rng.choice(WORDS)[rng.choice((1, 2))] for _ in words]
    text = " ".join(words)
    roll = rng.random()
    if roll < 0.5:
        if rng.random() < 0.4:
            text = text.capitalize() + rng.choice(".!?")
        ask, reply = rng.choice(REPEAT), text
    elif roll < 0.6:
        text = " ".join(words[:4])
        ask, reply = rng.choice(UPPER), text.upper()
    elif roll < 0.68:
        text = text.upper()
        ask, reply = rng.choice(LOWER), text.lower()
    elif roll < 0.86:
        ask, place = rng.choice(WORD_AT)
        reply = words[place]
    else:
        text = ", ".join(words)
        ask, reply = rng.choice(FLIP), ", ".join(reversed(words))
    return Exchange(
        "copying", f"copy|{ask}|{text}", ask.format(s=text), reply, exact(reply), noise=False
    )
