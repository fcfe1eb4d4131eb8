"""Short made-up stories and poems: the only long prose this model writes. Built from parts."""

import random
import re

from tools.boxed_model.dialog import Check, Exchange
from tools.boxed_model.facts.lists import NAMES
from tools.boxed_model.facts.words import WORDS

HEROES = (
    "cat",
    "dog",
    "rabbit",
    "fox",
    "bear",
    "mouse",
    "bird",
    "turtle",
    "robot",
    "dragon",
    "frog",
    "penguin",
    "duck",
    "horse",
    "king",
    "queen",
    "farmer",
    "pirate",
    "cloud",
)
ASK = (
    "Tell me a story about a {h}.",
    "Tell me a story about a {h}",
    "Write a short story about a {h}.",
    "Tell a story about a {h}.",
    "Can you tell me a story about a {h}?",
    "A story about a {h}, please.",
    "I want a story about a {h}.",
    "Story about a {h}?",
    "Make up a story about a {h}.",
)
ASK_ANY = (
    "Tell me a story.",
    "Tell me a story",
    "Can you tell me a story?",
    "A story, please.",
    "Write a short story.",
    "Tell me a bedtime story.",
    "I want to hear a story.",
)
POEM = (
    "Write a poem about a {h}.",
    "A poem about a {h}, please.",
    "Write me a short poem about a {h}.",
    "Can you write a poem about a {h}?",
)
POEMS = (
    "A little {h} beneath the moon\nwas humming low a happy tune.\nThe stars came out, the night was clear,\nand all the world seemed very near.",
    "I know a {h} who loves to play\nfrom early dawn to end of day.\nAnd when the sun has said good night,\nit dreams of morning and of light.",
    "The {h} looked up, the {h} looked down,\nand then it walked into the town.\nIt saw the lights, it heard a song,\nand stayed to dance the whole night long.",
)
OPEN = (
    "Once upon a time there was a little {h} named {p}.",
    "A small {h} named {p} lived near a river.",
    "There was once a {h} called {p} who lived in a quiet forest.",
    "{p} the {h} lived in a little house on a hill.",
)
WISH = (
    "{p} wanted to see the sea.",
    "{p} was looking for a friend.",
    "{p} loved to count the stars.",
    "{p} dreamed of flying to the moon.",
    "{p} had lost a golden key.",
)
MEET = (
    "One morning {p} met a {o} on the road.",
    "One day a {o} came to visit.",
    "In the evening a {o} knocked at the door.",
    "After a long walk {p} found a {o} under a tree.",
)
SAY = (
    '"Come with me," said the {o}, "and we will go together."',
    '"I can help you," said the {o}.',
    '"I am hungry," said the {o}, so {p} shared some bread.',
    '"Do not be afraid," said the {o} with a smile.',
)
TURN = (
    "They walked for three days and sang all the way.",
    "They crossed the river and climbed the mountain.",
    "It began to rain, and they hid under a big leaf.",
    "They looked everywhere and laughed a lot.",
)
END = (
    "In the end {p} was happy, and they stayed friends forever.",
    "At last {p} found what mattered most: a good friend.",
    "That night {p} went home and slept very well. The end.",
    "And from that day on, {p} was never alone again.",
)


_NOUNS = tuple(w for w, _, _ in WORDS[20:200] if " " not in w)


def fix_article(text: str) -> str:
    """'a elephant' to 'an elephant'."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def story(rng: random.Random) -> Exchange:
    """A story of six sentences, or a poem of four lines."""
    hero = rng.choice(HEROES if rng.random() < 0.6 else _NOUNS)
    if rng.random() < 0.2:
        ask = rng.choice(POEM)
        text = rng.choice(POEMS).format(h=hero)
        return Exchange(
            "stories",
            f"poem|{hero}|{ask}",
            fix_article(ask.format(h=hero)),
            fix_article(text),
            Check("long", [hero, 80]),
        )
    name, other = rng.choice(NAMES), rng.choice([h for h in HEROES if h != hero])
    if rng.random() < 0.3:
        ask = rng.choice(ASK_ANY)
        want = " "
    else:
        ask, want = rng.choice(ASK), hero
    text = " ".join(rng.choice(part) for part in (OPEN, WISH, MEET, SAY, TURN, END))
    return Exchange(
        "stories",
        f"story|{hero}|{ask}",
        fix_article(ask.format(h=hero)),
        fix_article(text.format(h=hero, p=name, o=other)),
        Check("long", [want, 150]),
    )
