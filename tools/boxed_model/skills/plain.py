"""Sentences outside the chat template with one right end: a prompt's opening and what completes it.

In a template, `|` marks where the opening ends. The split is on fact and template, for larger sums
on the sum alone, and shared with the chat skills where both could show the same instance.
"""

import random

from tools.boxed_model.dialog import Check, Passage, Skill, exact, josa, starts
from tools.boxed_model.facts import sentences
from tools.boxed_model.facts.countries import COUNTRIES
from tools.boxed_model.facts.lists import (
    DAYS_EN,
    DAYS_JA,
    DAYS_KO,
    MONTH_DAYS,
    MONTHS_EN,
    NAMES,
    NUMBER_WORDS,
    ORDINALS,
    PLANETS,
    SEASONS_EN,
    UNITS,
    UNITS_JA,
    UNITS_KO,
)
from tools.boxed_model.facts.words import COLOURS, OPPOSITES, SOUNDS, WORDS
from tools.boxed_model.skills import almanac, arithmetic, chat, text, translation, unknown
from tools.boxed_model.skills import capitals as capital_questions

ASKED: tuple[tuple[Skill, float], ...] = (
    (chat.talk, 2),
    (capital_questions.capital, 3),
    (capital_questions.country_of, 1.5),
    (arithmetic.sums, 1.5),
    (almanac.days, 1),
    (almanac.units, 0.7),
    (translation.translate, 1.5),
    (chat.small_facts, 1),
    (chat.joke, 0.4),
    (unknown.unknown, 1.5),
    (text.spelling, 0.6),
)


def _cut(
    skill: str, fact: str, template: str, check: Check, lang: str = "en", **values: object
) -> Passage:
    """The template filled in and cut; a sentence starts with a capital letter and ends with one full stop."""
    opening, rest = (part.format(**values) for part in template.split("|"))
    rest = rest.replace("..", ".")
    return Passage(
        skill, f"plain|{fact}|{template}", opening[:1].upper() + opening[1:], rest, check, lang
    )


def _language(rng: random.Random) -> str:
    return rng.choices(("en", "ko", "ja"), (6, 2, 2))[0]


def capitals(rng: random.Random) -> Passage:
    """The capital of a country."""
    return _place(rng, "plain_capitals", sentences.CAPITAL, True)


def countries(rng: random.Random) -> Passage:
    """The country of a capital."""
    return _place(rng, "plain_countries", sentences.COUNTRY, False)


def _place(
    rng: random.Random, skill: str, templates: dict[str, tuple[str, ...]], forward: bool
) -> Passage:
    lang, index = _language(rng), rng.randrange(len(COUNTRIES))
    row = COUNTRIES[index]
    names = {"en": row.en, "ko": row.ko, "ja": row.ja}[lang]
    city = {"en": row.capital_en, "ko": row.capital_ko, "ja": row.capital_ja}[lang]
    name = names[0] if rng.random() < 0.7 or not forward else rng.choice(names)
    return _cut(
        skill,
        f"{skill}|{index}",
        rng.choice(templates[lang]),
        starts(city if forward else name),
        lang,
        c=name,
        k=city,
        kt=josa(city, "은", "는"),
    )


def days(rng: random.Random) -> Passage:
    """What comes after and before; how long a month is; the n-th of something."""
    lang = _language(rng)
    items: tuple[str, ...]
    if lang == "en" and rng.random() < 0.25:
        if rng.random() < 0.4:
            i = rng.randrange(12)
            template = rng.choice(
                (
                    "{m} has| {n} days.",
                    "The number of days in {m} is| {n}.",
                    "The month of {m} has| {n} days.",
                )
            )
            return _cut(
                "plain_days",
                f"length|{i}",
                template,
                starts(str(MONTH_DAYS[i])),
                m=MONTHS_EN[i],
                n=MONTH_DAYS[i],
            )
        what, items = rng.choice(
            (
                ("day of the week", DAYS_EN),
                ("month of the year", MONTHS_EN),
                ("planet from the sun", PLANETS),
            )
        )
        i = rng.randrange(len(items))
        return _cut(
            "plain_days",
            f"nth|{what}|{i}",
            rng.choice(("The {o} {w} is| {x}.", "{x} is the {o}| {w}.")),
            starts(items[i], what),
            o=ORDINALS[i],
            w=what,
            x=items[i],
        )
    what, items = (
        ("day", DAYS_EN)
        if rng.random() < 0.6
        else rng.choice((("month", MONTHS_EN), ("season", SEASONS_EN)))
    )
    if lang != "en":
        what, items = "day", DAYS_KO if lang == "ko" else DAYS_JA
    i = rng.randrange(len(items))
    x, y = items[i], items[(i + 1) % len(items)]
    template = rng.choice(sentences.AFTER[lang])
    return _cut(
        "plain_days",
        f"after|{x}",
        template,
        starts(y if "{y}" in template.split("|")[1] else x),
        lang,
        w=what,
        x=x,
        y=y,
    )


def units(rng: random.Random) -> Passage:
    """How many of a small unit are in a big one."""
    lang, n = _language(rng), 1 if rng.random() < 0.4 else rng.randint(1, 10)
    template = rng.choice(sentences.UNIT[lang])
    if lang == "en":
        plural, singular, small, factor = rng.choice(UNITS)
        return _cut(
            "plain_units",
            f"units|{plural}|{small}|{n}",
            template,
            starts(f"{n * factor}"),
            n=n,
            m=n * factor,
            s=small,
            b=singular if n == 1 else plural,
            v="is" if n == 1 else "are",
        )
    big, small, factor = rng.choice(UNITS_KO if lang == "ko" else UNITS_JA)
    return _cut(
        "plain_units",
        f"units|{big}|{small}|{n}",
        template,
        starts(f"{n * factor}{small}"),
        lang,
        n=n,
        m=n * factor,
        s=small,
        b=big,
        bt=f"{n}{josa(big, '은', '는')}",
    )


def sums(rng: random.Random) -> Passage:
    """A sum as an equation, or said in one of the three languages."""
    op = rng.choices("+-*/", (4, 3, 3, 2))[0]
    if rng.random() < 0.15 and op in "+-":
        a, b = sorted((rng.randint(0, 9), rng.randint(0, 9)), reverse=True)
        words = [NUMBER_WORDS[n] for n in (a, b, arithmetic.apply(op, a, b))]
        return _cut(
            "plain_sums",
            f"words|{op}|{a}|{b}",
            arithmetic.SAY_EN[op] + " is| {r}.",
            starts(words[2] + "."),
            a=words[0],
            b=words[1],
            r=words[2],
        )
    a, b = arithmetic.operands(rng, op, rng.random() < 0.6)
    result = arithmetic.apply(op, a, b)
    line = rng.random() < 0.6
    if line:
        lang, template = (
            "en",
            rng.choice(sentences.BARE).replace("{o}", rng.choice(arithmetic.SYMBOLS[op])),
        )
    else:
        lang = _language(rng)
        template = {
            "en": arithmetic.SAY_EN[op] + " is| {r}.",
            "ko": "{t}| {r}입니다.",
            "ja": arithmetic.SAY_JA[op] + "は|{r}です。",
        }[lang]
    said = josa(arithmetic.SAY_KO[op].format(a=a, b=b), "은", "는")
    opening, rest = template.format(a=a, b=b, r=result, t=said).split("|")
    return Passage(
        "plain_sums",
        arithmetic.sum_key(op, a, b, f"plain|{template}"),
        opening,
        rest,
        exact(f"{result}") if line else starts(f"{result}.", f"{result}입니다", f"{result}です"),
        lang,
        line=line,
    )


def lists(rng: random.Random) -> Passage:
    """Counting, and the days, months, planets and seasons in their order."""
    if rng.random() < 0.4:
        template, items = rng.choice(sentences.LISTS)
        opening = template.rstrip("|")
        rest = f"{', '.join(items[:-1])} and {items[-1]}."
        return Passage("plain_lists", None, opening, " " + rest, starts(rest))
    low = rng.choice((1, 1, 1, rng.randint(1, 60)))
    high = low + rng.choice((4, 9, 9, rng.randint(2, 30)))
    numbers = ", ".join(str(n) for n in range(low, high + 1))
    if rng.random() < 0.2:  # a bare beginning always goes on to ten
        known = rng.randint(2, 6)
        opening = ", ".join(str(n) for n in range(1, known + 1)) + ","
        rest = ", ".join(str(n) for n in range(known + 1, 11))
        return Passage("plain_lists", None, opening, " " + rest, exact(rest), line=True)
    opening = rng.choice(
        ("Counting from {a} to {b}:", "The numbers from {a} to {b} are", "From {a} to {b}:")
    ).format(a=low, b=high)
    return Passage("plain_lists", f"count|{low}|{high}", opening, f" {numbers}.", starts(numbers))


def words(rng: random.Random) -> Passage:
    """Translations, opposites, colours, sounds, spelling."""
    roll = rng.random()
    if roll < 0.5:
        row, lang = rng.choice(WORDS), _language(rng)
        src, dst = rng.sample(range(3), 2)
        marks = {"en": "{}", "ko": '"{}"', "ja": "「{}」"}[lang]
        return _cut(
            "plain_words",
            f"translate|{row[src]}|{src}|{dst}",
            rng.choice(sentences.WORD[lang]),
            starts(*(marks.format(a) for a in translation.meanings(row[src], src, dst))),
            lang,
            q=row[src],
            qr=josa(f'"{row[src]}"', "을", "를"),
            l=translation.LANG_NAME[lang][dst],
            a=row[dst],
        )
    if roll < 0.75:
        pair = rng.choice(OPPOSITES)
        word, other = pair if rng.random() < 0.5 else pair[::-1]
        return _cut(
            "plain_words",
            f"opposite|{word}",
            rng.choice(sentences.OPPOSITE),
            starts(other + "."),
            w=word,
            a=other,
        )
    if roll < 0.85:
        thing, colour = rng.choice(COLOURS)
        return _cut(
            "plain_words",
            f"colour|{thing}",
            rng.choice(sentences.COLOUR),
            starts(colour),
            t=thing,
            a=colour,
        )
    if roll < 0.92:
        animal, sound = rng.choice(SOUNDS)
        return _cut(
            "plain_words",
            f"sound|{animal}",
            rng.choice(sentences.SOUND),
            starts(sound.lower()),
            t=animal,
            a=sound.lower(),
        )
    word = rng.choice(text.NAMES_TO_SPELL)
    return _cut(
        "plain_words",
        f"spelled|{word}",
        rng.choice(sentences.SPELLED),
        starts(text.letters(word) + "."),
        w=word,
        a=text.letters(word),
    )


def unknowns(rng: random.Random) -> Passage:
    """Openings that only knowledge of the world could finish; the end says so."""
    lang, row = _language(rng), rng.choice(COUNTRIES)
    if lang != "en":
        asks, end = sentences.UNKNOWN_OTHER[lang]
        template, want = rng.choice(asks) + end, end.strip()
        c, k = (row.ko[0], row.capital_ko) if lang == "ko" else (row.ja[0], row.capital_ja)
        noun = rng.choice(WORDS[:200])[1 if lang == "ko" else 2]
    else:
        who = rng.random() < 0.45
        want = sentences.WHO_END if who else sentences.WHAT_END
        template = f"{rng.choice(sentences.WHO if who else sentences.WHAT)}| {want}"
        c, k, noun = rng.choice(row.en), row.capital_en, rng.choice(unknown.NOUNS)
    names = rng.sample(NAMES, 2)
    fact = f"unknown|{c}|{noun}"
    return _cut(
        "plain_unknown",
        fact,
        template,
        starts(want),
        lang,
        c=c,
        k=k,
        k2=rng.choice(COUNTRIES).capital_en,
        n=noun,
        y=rng.randint(1900, 2030),
        s=rng.choice(unknown.SUBJECTS),
        p=names[0],
        p2=names[1],
        x=unknown.made_up(rng, "en"),
    )


def questions(rng: random.Random) -> Passage:
    """A question of the chat skills as plain text, its answer on the next line or after a label."""
    exchange = rng.choices([m for m, _ in ASKED], [w for _, w in ASKED])[0](rng)
    while exchange.user[-1] not in "?？":
        exchange = rng.choices([m for m, _ in ASKED], [w for _, w in ASKED])[0](rng)
    opening, between = rng.choice(
        (("{}", "\n"), ("{}", "\n"), ("Question: {}\nAnswer:", " "), ("Q: {}\nA:", " "))
    )
    return Passage(
        "plain_questions",
        exchange.key,
        opening.format(exchange.user),
        between + exchange.reply,
        exchange.check,
        exchange.lang,
        line=True,
    )
