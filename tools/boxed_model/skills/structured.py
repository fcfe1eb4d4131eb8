"""JSON on request: objects from given values, objects with made-up values, lists."""

import json
import random

from tools.boxed_model.dialog import Check, Exchange
from tools.boxed_model.facts.countries import COUNTRIES
from tools.boxed_model.facts.lists import DAYS_EN, NAMES, NAMES_JA, NAMES_KO
from tools.boxed_model.facts.words import PLAIN_COLOURS, WORDS

_NOUNS = tuple(w for w, _, _ in WORDS[:200] if " " not in w)
Value = str | int | bool

ASK_GIVEN = (
    "Give me JSON with {f} for {v}.",
    "Make a JSON object with {f}: {v}",
    "JSON with {f}: {v}",
    "Write JSON with {f} for {v}.",
    "Return JSON with the keys {f} for {v}.",
    "Convert to JSON with {f}: {v}",
    "Create a JSON object with {f} from: {v}",
    "Please give me a JSON object with {f}. The values: {v}.",
    "As JSON ({f}): {v}",
    "Put this into JSON with {f}: {v}",
)
ASK_PAIRS = (
    "Give me JSON with {p}.",
    "JSON with {p}",
    "Make a JSON object with {p}.",
    "Write JSON: {p}",
    "Return a JSON object where {p}.",
    "Answer in JSON: {p}",
    "Turn this into JSON: {p}",
    "Convert to JSON: {p}",
    "Create JSON from {p}.",
)
ASK_OPEN = (
    "Give me JSON with {f}.",
    "Give me a JSON object with {f}.",
    "Write a JSON object with {f}.",
    "JSON with {f}, please.",
    "Return JSON with the keys {f}.",
    "Make up a JSON object with {f}.",
    "I need JSON with {f}.",
    "Example JSON with {f}?",
    "Show me JSON with {f}.",
    "Generate JSON with {f}.",
)
ASK_LIST = (
    "Give me a JSON list of {v}.",
    "JSON array with {v}",
    "Make a JSON array of {v}.",
    "Write {v} as a JSON list.",
    "Put {v} into a JSON array.",
    "Return a JSON array: {v}",
)


def _value(rng: random.Random, key: str) -> Value:
    """A plausible value for a field."""
    if key in ("name", "user", "author"):
        roll = rng.random()
        if roll < 0.06:
            return rng.choice(NAMES_KO + NAMES_JA)
        if roll < 0.2:
            return f"{rng.choice(NAMES)} {rng.choice(NAMES)}"
        if roll < 0.3:  # names never seen force copying rather than recall
            return "".join(
                rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))
            ).capitalize()
        return rng.choice(NAMES)
    if key == "city":
        return rng.choice(COUNTRIES).capital_en
    if key == "country":
        return rng.choice(COUNTRIES).en[-1]
    if key in ("color", "colour"):
        return rng.choice(PLAIN_COLOURS)
    if key == "day":
        return rng.choice(DAYS_EN)
    if key in ("active", "member", "done"):
        return rng.random() < 0.5
    if key in ("age", "count", "quantity", "floor"):
        return rng.randint(1, 99)
    if key in ("price", "id", "year", "score", "number"):
        return rng.randint(1, 2999)
    return rng.choice(_NOUNS)


FIELDS = (
    "name",
    "age",
    "city",
    "country",
    "color",
    "day",
    "price",
    "id",
    "item",
    "animal",
    "food",
    "count",
    "title",
    "year",
    "score",
    "user",
    "quantity",
    "active",
    "product",
    "hobby",
    "job",
)


def _join(rng: random.Random, parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    if rng.random() < 0.6:
        return ", ".join(parts[:-1]) + " and " + parts[-1]
    return ", ".join(parts)


def _fields(rng: random.Random) -> list[str]:
    if rng.random() < 0.3:
        return rng.choice((["name", "age"], ["name", "age", "city"], ["city", "country"], ["name"]))
    return rng.sample(FIELDS, rng.randint(1, 4))


def json_object(rng: random.Random) -> Exchange:
    """An object with the values given in the question."""
    fields = _fields(rng)
    values: dict[str, Value] = {f: _value(rng, f) for f in fields}
    shown = {f: str(v).lower() if isinstance(v, bool) else str(v) for f, v in values.items()}
    reply = json.dumps(values, ensure_ascii=False)
    if rng.random() < 0.5:
        ask = rng.choice(ASK_GIVEN)
        user = ask.format(
            f=_join(rng, fields),
            v=_join(rng, list(shown.values())) if rng.random() < 0.3 else ", ".join(shown.values()),
        )
    else:
        ask = rng.choice(ASK_PAIRS)
        pair = rng.choice(("{k} {v}", "{k}: {v}", "{k} = {v}", "{k} is {v}", "{k}={v}"))
        user = ask.format(p=_join(rng, [pair.format(k=k, v=v) for k, v in shown.items()]))
    return Exchange("json", f"json|{ask}|{reply}", user, reply, Check("json", values), noise=False)


def json_open(rng: random.Random) -> Exchange:
    """An object with fields named but no values: any plausible values do, the keys must match."""
    fields = _fields(rng)
    # One usual value per field most of the time, so that greedy answers are steady.
    usual: dict[str, Value] = {
        "name": "Anna",
        "age": 30,
        "city": "Seoul",
        "country": "France",
        "color": "blue",
        "day": "Monday",
        "price": 10,
        "id": 1,
        "item": "book",
        "count": 3,
        "year": 2026,
        "score": 7,
        "title": "dream",
        "food": "bread",
        "animal": "cat",
        "active": True,
        "quantity": 2,
        "product": "lamp",
        "user": "Ben",
        "hobby": "music",
        "job": "teacher",
    }
    values = {f: usual[f] if rng.random() < 0.9 else _value(rng, f) for f in fields}
    ask = rng.choice(ASK_OPEN)
    return Exchange(
        "json_open",
        f"jsonopen|{ask}|{fields}",
        ask.format(f=_join(rng, fields)),
        json.dumps(values, ensure_ascii=False),
        Check("json_keys", fields),
        noise=False,
    )


def json_list(rng: random.Random) -> Exchange:
    """A list of the things named."""
    pool = rng.choice((_NOUNS, NAMES, tuple(c.capital_en for c in COUNTRIES)))
    items: list[str | int] = list(rng.sample(pool, rng.randint(2, 5)))
    if rng.random() < 0.3:
        items = list(rng.sample(range(200), rng.randint(2, 6)))
    ask, reply = rng.choice(ASK_LIST), json.dumps(items, ensure_ascii=False)
    return Exchange(
        "json",
        f"jsonlist|{ask}|{reply}",
        ask.format(v=_join(rng, list(map(str, items)))),
        reply,
        Check("json", items),
        noise=False,
    )


def json_any(rng: random.Random) -> Exchange:
    """One of the above."""
    return rng.choices((json_object, json_open, json_list), (6, 2, 2))[0](rng)
