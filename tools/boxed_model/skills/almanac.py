"""Days, months, units, planets and counting."""

import random

from tools.boxed_model.dialog import Exchange, contains, exact, josa
from tools.boxed_model.facts.lists import (
    DAYS_EN,
    DAYS_JA,
    DAYS_KO,
    MONTH_DAYS,
    MONTHS_EN,
    ORDINALS,
    PLANETS,
    SEASONS_EN,
    UNITS,
    UNITS_JA,
    UNITS_KO,
)

NEXT_EN = (
    "What {w} comes after {x}?",
    "Which {w} comes after {x}?",
    "What {w} is after {x}?",
    "Which {w} follows {x}?",
    "What comes after {x}?",
    "{w} after {x}?",
    "Tell me the {w} after {x}.",
    "What's the {w} after {x}?",
    "What is the next {w} after {x}?",
)
PREV_EN = (
    "What {w} comes before {x}?",
    "Which {w} comes before {x}?",
    "What {w} is before {x}?",
    "What comes before {x}?",
    "{w} before {x}?",
    "Tell me the {w} before {x}.",
    "What's the {w} before {x}?",
    "Which {w} is right before {x}?",
)
SHIFT_EN = {
    1: (
        "If today is {x}, what day is tomorrow?",
        "Today is {x}. What day is tomorrow?",
        "It's {x} today. What is tomorrow?",
    ),
    -1: (
        "If today is {x}, what day was yesterday?",
        "Today is {x}. What day was yesterday?",
        "It's {x} today. What was yesterday?",
    ),
    2: (
        "If today is {x}, what day is the day after tomorrow?",
        "Today is {x}. What day is it in two days?",
    ),
}
NEXT_KO = (
    "{x} 다음 날은?",
    "{x} 다음은 무슨 요일이야?",
    "{x} 다음은 무슨 요일인가요?",
    "오늘이 {x}이면 내일은?",
    "오늘이 {x}이면 내일은 무슨 요일이야?",
    "{x} 다음은?",
)
PREV_KO = (
    "{x} 전날은?",
    "{x} 전은 무슨 요일이야?",
    "오늘이 {x}이면 어제는?",
    "오늘이 {x}이면 어제는 무슨 요일이야?",
    "{x} 앞은 무슨 요일인가요?",
)
NEXT_JA = (
    "{x}の次は何曜日ですか?",
    "{x}の次の日は?",
    "{x}の次は?",
    "今日が{x}なら明日は?",
    "今日が{x}なら明日は何曜日ですか?",
    "{x}の翌日は何曜日?",
)
PREV_JA = (
    "{x}の前は何曜日ですか?",
    "{x}の前の日は?",
    "今日が{x}なら昨日は?",
    "今日が{x}なら昨日は何曜日ですか?",
    "{x}の前日は何曜日?",
)
HOW_MANY_EN = (
    "How many {s} are in {n} {b}?",
    "How many {s} are there in {n} {b}?",
    "{n} {b} in {s}?",
    "Convert {n} {b} to {s}.",
    "How many {s} in {n} {b}?",
    "What is {n} {b} in {s}?",
    "{n} {b} is how many {s}?",
    "How many {s} does {n} {b} have?",
)
HOW_MANY_KO = (
    "{n}{b}은 몇 {s}?",
    "{n}{b}은 몇 {s}인가요?",
    "{n}{b}이 몇 {s}이야?",
    "{n}{b}은 몇 {s}입니까?",
)
HOW_MANY_JA = (
    "{n}{b}は何{s}ですか?",
    "{n}{b}は何{s}?",
    "{n}{b}は何{s}でしょうか?",
    "{n}{b}って何{s}?",
)


def _cycle(rng: random.Random, items: tuple[str, ...], what: str) -> Exchange:
    i, step = rng.randrange(len(items)), rng.choice((1, -1))
    ask = rng.choice(NEXT_EN if step == 1 else PREV_EN)
    target = items[(i + step) % len(items)]
    word = "after" if step == 1 else "before"
    return Exchange(
        "days_months",
        f"cycle|{items[i]}|{ask}",
        ask.format(w=what, x=items[i]),
        f"{target} comes {word} {items[i]}.",
        contains(f"{target} comes"),
        ("day", "en", items, (i + step) % len(items)),
        word=target,
    )


def days(rng: random.Random) -> Exchange:
    """The day, month or season before or after another."""
    lang = rng.choices(("en", "ko", "ja"), (5, 2, 2))[0]
    if lang != "en":
        names = DAYS_KO if lang == "ko" else DAYS_JA
        i, step = rng.randrange(7), rng.choice((1, -1))
        table = (NEXT_KO, PREV_KO) if lang == "ko" else (NEXT_JA, PREV_JA)
        ask = rng.choice(table[0 if step == 1 else 1])
        target = names[(i + step) % 7]
        reply = f"{target}입니다." if lang == "ko" else f"{target}です。"
        return Exchange(
            "days_months",
            f"cycle|{names[i]}|{ask}",
            ask.format(x=names[i]),
            reply,
            contains(target),
            ("day", lang, names, (i + step) % 7),
            lang,
        )
    roll = rng.random()
    if roll < 0.3:
        return _cycle(rng, DAYS_EN, "day")
    if roll < 0.55:
        return _cycle(rng, MONTHS_EN, "month")
    if roll < 0.65:
        return _cycle(rng, SEASONS_EN, "season")
    if roll < 0.85:
        i, step = rng.randrange(7), rng.choice(tuple(SHIFT_EN))
        ask = rng.choice(SHIFT_EN[step])
        target = DAYS_EN[(i + step) % 7]
        return Exchange(
            "days_months",
            f"shift|{i}|{ask}",
            ask.format(x=DAYS_EN[i]),
            f"It is {target}." if step > 0 else f"It was {target}.",
            contains(target),
            ("day", "en", DAYS_EN, (i + step) % 7),
            word=target,
        )
    i = rng.randrange(12)
    ask = rng.choice(
        (
            "How many days does {m} have?",
            "How many days are in {m}?",
            "Days in {m}?",
            "How long is {m}?",
            "What is the number of days in {m}?",
        )
    )
    reply = f"{MONTHS_EN[i]} has {MONTH_DAYS[i]} days."
    if i == 1:
        reply = "February has 28 days, or 29 in a leap year."
    return Exchange(
        "days_months",
        f"length|{i}|{ask}",
        ask.format(m=MONTHS_EN[i]),
        reply,
        contains(str(MONTH_DAYS[i])),
    )


def follow_day(rng: random.Random, topic: tuple[object, ...]) -> Exchange:
    """'And after that?'"""
    lang, names, i = str(topic[1]), topic[2], int(str(topic[3]))
    assert isinstance(names, tuple)
    ask = rng.choice(
        {
            "en": (
                "And after that?",
                "And then?",
                "And the next one?",
                "What comes next?",
                "And the one after that?",
            ),
            "ko": ("그 다음은?", "그 다음 날은?", "그 다음은요?"),
            "ja": ("その次は?", "その次の日は?", "その次は何ですか?"),
        }[lang]
    )
    target, place = names[(i + 1) % len(names)], (i + 1) % len(names)
    reply = {
        "en": f"{target} comes after {names[i]}.",
        "ko": f"{target}입니다.",
        "ja": f"{target}です。",
    }[lang]
    return Exchange(
        "follow_up",
        f"then_day|{names[i]}|{ask}",
        ask,
        reply,
        contains(target),
        ("day", lang, names, place),
        lang,
        target if lang == "en" else None,
    )


def units(rng: random.Random) -> Exchange:
    """How many minutes in 3 hours? Small multiples only."""
    lang = rng.choices(("en", "ko", "ja"), (5, 2, 2))[0]
    n = 1 if rng.random() < 0.4 else rng.randint(1, 10)
    if lang == "en":
        plural, singular, small, factor = rng.choice(UNITS)
        big = singular if n == 1 else plural
        verb = "is" if n == 1 else "are"
        ask = rng.choice(HOW_MANY_EN)
        count = (
            n
            if n > 1 or rng.random() < 0.5
            else ("an" if big[0] in "aeio" or big == "hour" else "a")
        )
        return Exchange(
            "units",
            f"units|{plural}|{small}|{n}|{ask}",
            ask.format(n=count, b=big, s=small),
            f"{n} {big} {verb} {n * factor} {small}.",
            contains(f" {n * factor} {small}"),
        )
    big, small, factor = rng.choice(UNITS_KO if lang == "ko" else UNITS_JA)
    ask = rng.choice(HOW_MANY_KO if lang == "ko" else HOW_MANY_JA)
    if lang == "ko":
        user = ask.replace("{b}은", josa("{b}", "은", "는")).format(n=n, b=big, s=small)
        user = user.replace(f"{big}는", josa(big, "은", "는")).replace(
            f"{big}이 ", josa(big, "이", "가") + " "
        )
        reply = f"{n}{josa(big, '은', '는')} {n * factor}{small}입니다."
    else:
        user, reply = ask.format(n=n, b=big, s=small), f"{n}{big}は{n * factor}{small}です。"
    return Exchange(
        "units",
        f"units|{big}|{small}|{n}|{ask}",
        user,
        reply,
        contains(f"{n * factor}{small}"),
        None,
        lang,
    )


def sequences(rng: random.Random) -> Exchange:
    """Counting, listing days, months and planets, the n-th of them, the next number."""
    roll = rng.random()
    if roll < 0.35:
        low = rng.choice((1, 1, 1, rng.randint(1, 60)))
        high = low + rng.choice((4, 9, 9, rng.randint(2, 30)))
        ask = rng.choice(
            (
                "Count from {a} to {b}.",
                "Count from {a} to {b}",
                "List the numbers {a} to {b}.",
                "Please count from {a} to {b}.",
                "Write the numbers from {a} to {b}.",
                "Can you count from {a} to {b}?",
                "Numbers from {a} to {b}, please.",
            )
        )
        reply = ", ".join(str(n) for n in range(low, high + 1))
        return Exchange(
            "sequences", f"count|{low}|{high}", ask.format(a=low, b=high), reply, exact(reply)
        )
    if roll < 0.5:
        low, high = 1, rng.randint(3, 60)
        ask = rng.choice(
            ("Count to {b}.", "Count to {b}!", "Can you count to {b}?", "count up to {b}")
        )
        reply = ", ".join(str(n) for n in range(low, high + 1))
        return Exchange("sequences", f"count|{low}|{high}", ask.format(b=high), reply, exact(reply))
    if roll < 0.62:
        high = rng.randint(3, 30)
        ask = rng.choice(
            ("Count down from {b}.", "Count backwards from {b}.", "Countdown from {b}!")
        )
        reply = ", ".join(str(n) for n in range(high, 0, -1))
        return Exchange("sequences", f"down|{high}|{ask}", ask.format(b=high), reply, exact(reply))
    kinds = (
        ("days of the week", DAYS_EN),
        ("months of the year", MONTHS_EN),
        ("planets", PLANETS),
        ("seasons", SEASONS_EN),
    )
    what, items = rng.choice(kinds)
    if roll < 0.8:
        ask = rng.choice(
            (
                "List the {w}.",
                "Name the {w}.",
                "What are the {w}?",
                "Tell me the {w}.",
                "{w}, please.",
                "{w}",
                "List all {w}.",
                "Which {w} are there?",
                "All {w} please",
                "Can you list the {w}?",
                "Give me all the {w}.",
            )
        )
        reply = ", ".join(items)
        return Exchange("sequences", f"list|{what}|{ask}", ask.format(w=what), reply, exact(reply))
    i = rng.randrange(len(items))
    one = {
        "days of the week": "day of the week",
        "months of the year": "month of the year",
        "planets": "planet from the sun",
        "seasons": "season of the year",
    }[what]
    ask = rng.choice(
        (
            "What is the {o} {w}?",
            "What's the {o} {w}?",
            "Which is the {o} {w}?",
            "Name the {o} {w}.",
            "The {o} {w}?",
        )
    )
    reply = f"The {ORDINALS[i]} {one} is {items[i]}."
    return Exchange(
        "sequences",
        f"nth|{what}|{i}|{ask}",
        ask.format(o=ORDINALS[i], w=one),
        reply,
        contains(f"is {items[i]}."),
        word=items[i],
    )
