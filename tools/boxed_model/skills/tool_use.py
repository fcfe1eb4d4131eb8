"""Tool calls: system prompts with tools, the call, the answer in words, and when not to call.

Names, parameters and descriptions vary so that the model learns to copy them from the prompt.
"""

import random
from dataclasses import dataclass
from typing import Any

from tools.boxed_model.dialog import Check, Exchange, Message, contains
from tools.boxed_model.facts.countries import COUNTRIES
from tools.boxed_model.facts.lists import DAYS_EN, NAMES
from tools.boxed_model.facts.words import WORDS

_NOUNS = tuple(w for w, _, _ in WORDS[:180] if " " not in w)
_CITIES = tuple(c.capital_en for c in COUNTRIES)


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of tool: possible names, descriptions, parameters (several spellings), questions.

    params: name choices, JSON type, value kind. asks use {0}, {1}; results pair a result template
    with the answer made from it; {r} is drawn by `_result`.
    """

    names: tuple[str, ...]
    about: tuple[str, ...]
    params: tuple[tuple[tuple[str, ...], str, str], ...]
    asks: tuple[str, ...]
    results: tuple[tuple[str, str], ...]


FAMILIES: tuple[Family, ...] = (
    Family(
        (
            "get_weather",
            "weather",
            "current_weather",
            "getWeather",
            "fetch_weather",
            "lookup_weather",
        ),
        (
            "Get the current weather for a city",
            "Weather in a place",
            "Returns the weather of a city",
        ),
        ((("city", "location", "place", "city_name"), "string", "city"),),
        (
            "What's the weather in {0}?",
            "What is the weather like in {0}?",
            "How is the weather in {0}?",
            "weather in {0}",
            "Weather in {0} today?",
            "Is it raining in {0}?",
            "How warm is it in {0}?",
            "What's the weather in {0} right now?",
            "{0}の天気は?",
            "{0} 날씨 어때?",
            "Temperature in {0}?",
        ),
        (
            ('{{"temperature": {n}, "condition": "{w}"}}', "It is {n} degrees and {w} in {0}."),
            ("{w}, {n} degrees", "It is {n} degrees and {w} in {0}."),
            ('{{"temp_c": {n}, "sky": "{w}"}}', "It is {n} degrees and {w} in {0}."),
            (
                '{{"location": "{0}", "temperature": {n}, "description": "{w}"}}',
                "It is {n} degrees and {w} in {0}.",
            ),
            ("{n}°C, {w}", "It is {n} degrees and {w} in {0}."),
            ('{{"temp": {n}}}', "It is {n} degrees in {0}."),
            ("{w}", "It is {w} in {0}."),
        ),
    ),
    Family(
        ("get_time", "current_time", "time_in", "getTime", "clock", "get_current_time"),
        ("Get the local time of a city", "Current time in a place", "Tells the time in a city"),
        ((("city", "location", "place", "timezone_city"), "string", "city"),),
        (
            "What time is it in {0}?",
            "What's the time in {0}?",
            "time in {0}",
            "Current time in {0}?",
            "Tell me the time in {0}.",
            "Do you know what time it is in {0}?",
            "{0}は今何時?",
            "{0} 지금 몇 시야?",
        ),
        (('{{"time": "{t}"}}', "It is {t} in {0}."), ("{t}", "It is {t} in {0}.")),
    ),
    Family(
        ("calculator", "calculate", "multiply_numbers", "compute", "math", "calc"),
        ("Work with two numbers", "Multiply two numbers", "Exact arithmetic on two numbers"),
        ((("a", "x", "first"), "number", "big"), (("b", "y", "second"), "number", "big")),
        (
            "What is {0} times {1}?",
            "Multiply {0} by {1}.",
            "{0} * {1}",
            "Calculate {0} * {1}.",
            "How much is {0} x {1}?",
            "{0} times {1}?",
        ),
        (('{{"result": {p}}}', "The result is {p}."), ("{p}", "The result is {p}.")),
    ),
    Family(
        ("search", "web_search", "search_web", "find", "google", "lookup"),
        ("Search the web", "Look something up", "Find pages about something"),
        ((("query", "q", "text", "keywords"), "string", "noun"),),
        (
            "Search for {0}.",
            "Look up {0}.",
            "Search the web for {0}.",
            "Find pages about {0}.",
            "Can you look up {0}?",
            "search {0}",
            "Google {0}.",
            "Find something about {0}.",
        ),
        (('{{"results": ["{k}", "{k2}"]}}', "I found: {k}, {k2}."), ("{k}", "I found: {k}.")),
    ),
    Family(
        ("send_message", "send_email", "message", "notify", "sendMessage", "text_person"),
        ("Send a message to a person", "Send text to somebody"),
        (
            (("to", "recipient", "person", "name"), "string", "name"),
            (("text", "message", "body", "content"), "string", "phrase"),
        ),
        (
            "Send {0} the message: {1}",
            "Tell {0}: {1}",
            "Message {0}: {1}",
            "Write to {0}: {1}",
            "Send a message to {0} saying {1}",
            "Text {0}: {1}",
        ),
        (
            ('{{"status": "sent"}}', "The message to {0} was sent."),
            ("ok", "The message to {0} was sent."),
            ('{{"ok": true}}', "The message to {0} was sent."),
        ),
    ),
    Family(
        ("set_alarm", "alarm", "create_alarm", "wake_me", "set_timer"),
        ("Set an alarm", "Rings at a time", "Create an alarm at a time"),
        ((("time", "at", "when"), "string", "time"),),
        (
            "Set an alarm for {0}.",
            "Wake me at {0}.",
            "Alarm at {0}, please.",
            "Set an alarm at {0}",
            "Please wake me up at {0}.",
            "I want to get up at {0}.",
        ),
        (
            ('{{"status": "ok"}}', "The alarm is set for {0}."),
            ("done", "The alarm is set for {0}."),
        ),
    ),
    Family(
        ("add_event", "create_event", "calendar_add", "schedule", "book_meeting"),
        ("Add an event to the calendar", "Plan a meeting"),
        ((("title", "name", "event"), "string", "noun"), (("day", "date", "on"), "string", "day")),
        (
            "Add {0} to my calendar on {1}.",
            "Plan {0} for {1}.",
            "Schedule {0} on {1}.",
            "Put {0} in the calendar for {1}.",
        ),
        (('{{"status": "ok"}}', "I added {0} on {1}."), ("added", "I added {0} on {1}.")),
    ),
    Family(
        ("get_price", "price", "stock_price", "price_of", "getPrice"),
        ("Get the price of a product", "Price lookup"),
        ((("product", "item", "name", "article"), "string", "noun"),),
        (
            "What does {0} cost?",
            "Price of {0}?",
            "How much does {0} cost?",
            "What is the price of {0}?",
            "How expensive is {0}?",
        ),
        (
            ('{{"price": {n}}}', "The price of {0} is {n}."),
            ("{n} dollars", "The price of {0} is {n} dollars."),
        ),
    ),
    Family(
        ("turn_on", "switch_on", "light_on", "turnOn", "enable_device"),
        ("Turn on a device", "Switch something on in the house"),
        ((("device", "name", "thing", "room"), "string", "noun"),),
        ("Turn on the {0}.", "Switch on the {0}.", "Please turn the {0} on.", "{0} on!"),
        (('{{"state": "on"}}', "The {0} is on now."), ("on", "The {0} is on now.")),
    ),
    Family(
        ("convert_currency", "exchange", "currency", "convert"),
        ("Convert an amount of money", "Exchange rates"),
        (
            (("amount", "value"), "number", "small"),
            (("currency", "to", "target"), "string", "money"),
        ),
        (
            "Convert {0} dollars to {1}.",
            "How much are {0} dollars in {1}?",
            "{0} dollars in {1}?",
            "Change {0} dollars into {1}.",
        ),
        (('{{"result": {n}}}', "That is {n} {1}."), ("{n}", "That is {n} {1}.")),
    ),
    Family(
        ("get_population", "population", "population_of", "count_people"),
        ("Population of a country", "How many people live in a country"),
        ((("country", "name", "state"), "string", "country"),),
        ("What is the population of {0}?", "How many people live in {0}?", "Population of {0}?"),
        (('{{"population": {b}}}', "{b} people live in {0}."), ("{b}", "{b} people live in {0}.")),
    ),
)


def _draw(rng: random.Random, kind: str) -> str | int:
    if kind == "city":
        return rng.choice(_CITIES)
    if kind == "country":
        return rng.choice(COUNTRIES).en[-1]
    if kind == "big":
        return rng.randint(2, 10 ** rng.randint(2, 4))
    if kind == "small":
        return rng.randint(1, 500)
    if kind == "name":
        return rng.choice(NAMES)
    if kind == "day":
        return rng.choice(DAYS_EN)
    if kind == "money":
        return rng.choice(("euros", "won", "yen", "pounds", "pesos", "francs", "rupees"))
    if kind == "time":
        return rng.choice(
            (
                f"{rng.randint(1, 12)} {rng.choice(('am', 'pm'))}",
                f"{rng.randint(0, 23):02d}:{rng.choice((0, 15, 30, 45)):02d}",
            )
        )
    if kind == "phrase":
        return " ".join(rng.choice(_NOUNS) for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.3:
        return f"{rng.choice(_NOUNS)} {rng.choice(_NOUNS)}"
    return rng.choice(_NOUNS)


PARAM_WORDS = (
    "town",
    "input",
    "value",
    "target",
    "arg",
    "param",
    "where",
    "what",
    "who",
    "subject",
    "key",
    "district",
    "number_1",
    "number_2",
    "left",
    "right",
    "data",
    "thing",
    "string",
    "term",
)
DESCRIBED: dict[str, tuple[str, ...]] = {
    "city": (
        "The {p}",
        "Name of the city",
        "The city, e.g. Paris",
        "The city and state, e.g. San Francisco, CA",
        "City name",
        "Where?",
    ),
    "big": ("The {p}", "A number", "Operand {p}"),
    "noun": ("The {p}", "What it is about", "A word"),
    "name": ("The {p}", "Who gets it", "A person"),
    "time": ("The {p}", "Time of day, e.g. 7 am"),
}
OPTIONAL: tuple[tuple[str, dict[str, Any]], ...] = (
    ("unit", {"type": "string", "enum": ["celsius", "fahrenheit"]}),
    ("limit", {"type": "integer"}),
    ("verbose", {"type": "boolean"}),
    ("format", {"type": "string", "enum": ["short", "long"]}),
    ("language", {"type": "string", "description": "Optional language"}),
)


def draw_values(rng: random.Random, family: Family) -> list[Any]:
    """A value for each parameter."""
    return [_draw(rng, kind) for _, _, kind in family.params]


@dataclass(frozen=True, slots=True)
class Tool:
    """A family with its name and parameter spellings fixed."""

    family: Family
    name: str
    params: tuple[str, ...]
    schema: dict[str, Any]


def make_tool(rng: random.Random, family: Family) -> Tool:
    """A concrete tool in the OpenAI function format."""
    name = (
        rng.choice(family.names) if rng.random() < 0.5 else _odd_name(rng, rng.choice(family.names))
    )
    params = tuple(rng.choice(names) for names, _, _ in family.params)
    if rng.random() < 0.35:
        params = tuple(
            f"{rng.choice(('', '', 'the_', 'my_', 'in_'))}{noun}"
            for noun in rng.sample(_NOUNS + PARAM_WORDS * 4, len(params))
        )
        if len(set(params)) < len(params):
            return make_tool(rng, family)
    properties: dict[str, Any] = {}
    described = rng.random() < 0.4
    for param, (_, kind, value) in zip(params, family.params, strict=True):
        properties[param] = {"type": kind if kind != "number" or rng.random() < 0.6 else "integer"}
        if described:
            properties[param]["description"] = rng.choice(
                DESCRIBED.get(value, ("The {p}",))
            ).format(p=param)
    if rng.random() < 0.2:  # an optional parameter, which a plain question leaves out
        properties.setdefault(*rng.choice(OPTIONAL))
    function: dict[str, Any] = {
        "name": name,
        "description": rng.choice(family.about),
        "parameters": {"type": "object", "properties": properties, "required": list(params)},
    }
    if rng.random() < 0.12:
        del function["description"]
    if rng.random() < 0.12:
        del function["parameters"]["required"]
    if rng.random() < 0.08:
        function["parameters"]["additionalProperties"] = False
        function["strict"] = True
    return Tool(family, name, params, {"type": "function", "function": function})


def _odd_name(rng: random.Random, name: str) -> str:
    """The name with other words around it, so that it must be copied from the prompt."""
    word = rng.choice(_NOUNS)
    return rng.choice(
        (
            f"{word}_{name}",
            f"{name}_{word}",
            f"{name}{rng.randint(1, 99)}",
            f"{name}_v{rng.randint(2, 9)}",
            f"my_{name}",
            f"{word}.{name}",
            f"{name}-{word}",
            f"api_{name}",
            name.upper(),
            f"{name}_report",
            f"do_{name}",
            f"{name}_tool",
            f"{name.title().replace('_', '')}",
        )
    )


def toolbox(rng: random.Random) -> list[Tool]:
    """One to four tools with different names."""
    count = rng.choices((1, 2, 3, 4), (5, 3, 2, 1))[0]
    return [make_tool(rng, f) for f in rng.sample(FAMILIES, count)]


def _result(rng: random.Random, values: list[Any], family: Family) -> tuple[str, str]:
    if rng.random() < 0.06:
        error = rng.choice(
            ("not found", "timeout", "no connection", "bad request", "permission denied")
        )
        form = rng.choice(("error: {e}", '{{"error": "{e}"}}', "Error: {e}")).format(e=error)
        return form, f"The tool failed: {error}."
    template, answer = rng.choice(family.results)
    draws = {
        "n": rng.randint(1, 99) if rng.random() < 0.8 else rng.randint(100, 999),
        "w": rng.choice(("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear")),
        "t": f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        "k": rng.choice(_NOUNS),
        "k2": rng.choice(_NOUNS),
        "b": rng.randint(10**4, 10**8),
        "p": values[0] * values[1] if family.params[0][2] == "big" else 0,
    }
    return template.format(*values, **draws), answer.format(*values, **draws)


def use_tool(rng: random.Random, tools: list[Tool], finish: bool) -> Exchange:
    """A question for one of the tools: the call, and with `finish` its result and the answer."""
    tool = rng.choice(tools)
    values = draw_values(rng, tool.family)
    ask = rng.choice(tool.family.asks)
    user = ask.format(*values)
    call = {"name": tool.name, "arguments": dict(zip(tool.params, values, strict=True))}
    messages: list[Message] = [
        {"role": "user", "content": user},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": call}],
        },
    ]
    key = f"tool|{tool.name}|{ask}|{values[0]}"
    if not finish:
        return Exchange("tool_call", key, user, "", Check("call", call), messages=tuple(messages))
    result, answer = _result(rng, values, tool.family)
    messages += [
        {"role": "tool", "content": result, "name": tool.name},
        {"role": "assistant", "content": answer},
    ]
    return Exchange("tool_answer", key, user, answer, contains(answer), messages=tuple(messages))
