"""Documents of plain text, without the chat template: a few passages and the end-of-text token.

Training shows them whole, with the loss on every token; the evaluation cuts the last passage after
its opening. Not here: the passages themselves, see skills/plain.py and skills/prose.py.
"""

import random
from dataclasses import dataclass

from tools.boxed_model.dialog import Check, Passage, PlainSkill, is_held_out
from tools.boxed_model.skills import plain, prose

PLAIN: dict[str, tuple[PlainSkill, float]] = {
    "capitals": (plain.capitals, 2.5),
    "countries": (plain.countries, 1.2),
    "days": (plain.days, 1.0),
    "units": (plain.units, 0.7),
    "sums": (plain.sums, 1.5),
    "lists": (plain.lists, 0.7),
    "words": (plain.words, 1.6),
    "unknowns": (plain.unknowns, 1.6),
    "questions": (plain.questions, 2.0),
    "introduction": (prose.introduction, 1.0),
    "future": (prose.future, 0.9),
    "open_ended": (prose.open_ended, 1.5),
    "stories": (prose.story, 0.8),
}
# The plain skills with a right answer, which can be held out.
JUDGED = tuple(n for n in PLAIN if n not in ("introduction", "future", "open_ended"))


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt and the text that follows it; `line` when only the next line is to be judged."""

    prompt: str
    rest: str
    skill: str
    check: Check
    line: bool = False

    @property
    def text(self) -> str:
        """The whole document."""
        return self.prompt + self.rest


def _draw(rng: random.Random, make: PlainSkill, held_out: bool) -> Passage:
    """A passage on the wanted side of the split; an open-ended one counts as training."""
    for _ in range(2000):
        passage = make(rng)
        if (passage.key is not None and is_held_out(passage.key)) == held_out:
            return passage
    raise RuntimeError(f"{make} yields no passage with held_out={held_out}")


def _any(rng: random.Random) -> PlainSkill:
    makers = list(PLAIN.values())
    return rng.choices([m for m, _ in makers], [w for _, w in makers])[0]


def document(
    rng: random.Random, held_out: bool = False, final: PlainSkill | None = None
) -> Document:
    """One to five passages of one language, mostly of one kind; the last is held out or not."""
    make = final or _any(rng)
    last = _draw(rng, make, held_out)
    before: list[Passage] = []
    if not last.alone:
        wanted = rng.choices((0, 1, 2, 3, 4), (55, 20, 12, 8, 5))[0]
        for _ in range(20):
            if len(before) == wanted:
                break
            passage = _draw(rng, make if rng.random() < 0.7 else _any(rng), False)
            if passage.lang == last.lang and not passage.alone:
                before.append(passage)
    lines = any(p.line for p in (*before, last)) or rng.random() < 0.2
    between = "\n" if lines else "" if last.lang == "ja" else " "
    prompt = "".join(p.opening + p.rest + between for p in before) + last.opening
    return Document(prompt, last.rest, last.skill, last.check, last.line)


def held_out_documents(seed: int, per_skill: int) -> list[Document]:
    """Documents that end with a held-out passage, some after others."""
    rng = random.Random(seed)
    return [document(rng, True, PLAIN[name][0]) for name in JUDGED for _ in range(per_skill)]
