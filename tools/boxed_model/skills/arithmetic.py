"""Small sums in three languages, chains of them, comparisons and parity.

Held out: for two one-digit numbers, the pair in a phrasing; for larger numbers, the pair itself
(its key carries no phrasing, and is the same in a follow-up), so those held-out sums are new sums.
"""

import random

from tools.boxed_model.dialog import Check, Exchange, exact, josa
from tools.boxed_model.facts.lists import NUMBER_WORDS

# {a} {b}: numbers. The answer to a bare expression is an equation, to words a sentence.
BARE = (
    "{a} {o} {b}",
    "{a}{o}{b}",
    "{a} {o} {b} =",
    "{a}{o}{b}=",
    "{a} {o} {b} = ?",
    "{a}{o}{b}=?",
    "{a} {o} {b}?",
    "{a}{o}{b}?",
)
ASK_EN = (
    "What is {e}?",
    "What's {e}?",
    "Calculate {e}.",
    "Compute {e}",
    "How much is {e}?",
    "Solve {e}.",
    "Can you calculate {e}?",
    "Work out {e}.",
    "{e} equals what?",
    "Tell me what {e} is.",
    "Please compute {e}.",
    "What does {e} equal?",
    "How much is {e}",
    "What do you get for {e}?",
    "I need the result of {e}.",
    "Evaluate {e}",
)
SAY_EN = {
    "+": "{a} plus {b}",
    "-": "{a} minus {b}",
    "*": "{a} times {b}",
    "/": "{a} divided by {b}",
}
COMMAND_EN = {
    "+": ("Add {a} and {b}.", "Sum of {a} and {b}?", "What is the sum of {a} and {b}?"),
    "-": (
        "Subtract {b} from {a}.",
        "Take {b} away from {a}.",
        "What is the difference of {a} and {b}?",
    ),
    "*": ("Multiply {a} by {b}.", "What is the product of {a} and {b}?", "Multiply {a} and {b}."),
    "/": ("Divide {a} by {b}.", "How many times does {b} go into {a}?"),
}
SAY_KO = {"+": "{a} 더하기 {b}", "-": "{a} 빼기 {b}", "*": "{a} 곱하기 {b}", "/": "{a} 나누기 {b}"}
ASK_KO = (
    "{s}?",
    "{t}?",
    "{t} 얼마야?",
    "{t} 얼마인가요?",
    "{t} 뭐야?",
    "{s} 계산해 줘.",
    "{t} 몇이야?",
    "{t} 얼마예요?",
    "{t} 몇인가요?",
)
SAY_JA = {"+": "{a}足す{b}", "-": "{a}引く{b}", "*": "{a}掛ける{b}", "/": "{a}割る{b}"}
ASK_JA = (
    "{s}は?",
    "{s}はいくつですか?",
    "{s}は何ですか?",
    "{s}を計算して。",
    "{s}はいくつ?",
    "{s}を計算してください。",
    "{s}",
)
SYMBOLS = {"+": ("+",), "-": ("-", "−"), "*": ("*", "x", "×"), "/": ("/", "÷")}
TOO_BIG = {
    "en": "That sum is too big for me; I'm a very small model.",
    "ko": "그 계산은 저에게 너무 커요. 저는 아주 작은 모델이에요.",
    "ja": "その計算は私には大きすぎます。とても小さなモデルなので。",
}
THEN_EN = {
    "+": ("And plus {b}?", "plus {b}?", "Add {b}.", "Now add {b}.", "And if you add {b}?"),
    "-": ("And minus {b}?", "minus {b}?", "Subtract {b}.", "Now subtract {b}.", "Take away {b}."),
    "*": ("And times {b}?", "times {b}?", "Multiply that by {b}.", "Now times {b}."),
    "/": ("And divided by {b}?", "Divide that by {b}.", "divided by {b}?"),
}
THEN_KO = {
    "+": ("거기에 {b} 더하면?", "{b} 더하면?"),
    "-": ("거기서 {b} 빼면?", "{b} 빼면?"),
    "*": ("거기에 {b} 곱하면?", "{b} 곱하면?"),
    "/": ("{b}로 나누면?",),
}
THEN_JA = {
    "+": ("それに{b}を足すと?", "{b}を足すと?"),
    "-": ("そこから{b}を引くと?", "{b}を引くと?"),
    "*": ("それに{b}を掛けると?", "{b}を掛けると?"),
    "/": ("それを{b}で割ると?",),
}


def apply(op: str, a: int, b: int) -> int:
    """The result; division is whole."""
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[op]


def sum_key(op: str, a: int, b: int, ask: str) -> str:
    """The split's key: the sum and its phrasing for one-digit sums, else the sum alone, anywhere."""
    small = max(a, b) < 10 or (op == "/" and b < 10 and a // max(b, 1) < 10)
    if op in "+*":
        a, b = min(a, b), max(a, b)
    return f"sum|{op}|{a}|{b}|{ask}" if small else f"sum2|{op}|{a}|{b}"


def operands(rng: random.Random, op: str, single: bool) -> tuple[int, int]:
    """Two numbers this model can do op on."""
    if op == "/":
        b = rng.randint(1, 9)
        return b * (rng.randint(0, 9) if single else rng.randint(2, 20)), b
    if single:
        return rng.randint(0, 9), rng.randint(0, 9)
    if op == "*":
        a, b = rng.randint(10, 99), rng.randint(2, 9)
        return (a, b) if rng.random() < 0.5 else (b, a)
    top = 999 if rng.random() < 0.4 else 99
    a, b = rng.randint(10, top), rng.randint(0, rng.choice((99, top)))
    if op == "-" and a < b and rng.random() < 0.8:
        a, b = b, a  # negative answers exist but are rarer in life
    return (a, b) if op == "-" or rng.random() < 0.7 else (b, a)


def _sentence(lang: str, op: str, a: int, b: int, result: int) -> str:
    if lang == "ko":
        said = josa(SAY_KO[op].format(a=a, b=b), "은", "는")
        return f"{said} {result}입니다."
    if lang == "ja":
        return f"{SAY_JA[op].format(a=a, b=b)}は{result}です。"
    return f"{SAY_EN[op].format(a=a, b=b)} is {result}."


def _ask(rng: random.Random, lang: str, op: str, a: int, b: int) -> tuple[str, str, bool]:
    """The question, the id of its phrasing, and whether it is a bare expression."""
    symbol = rng.choice(SYMBOLS[op])
    if rng.random() < 0.3:
        ask = rng.choice(BARE)
        return ask.format(a=a, o=symbol, b=b), ask, True
    if lang == "ko":
        said = SAY_KO[op] if rng.random() < 0.7 else "{a} " + symbol + " {b}"
        said = said.format(a=a, b=b)
        ask = rng.choice(ASK_KO)
        return ask.format(s=said, t=josa(said, "은", "는")), ask, False
    if lang == "ja":
        said = (SAY_JA[op] if rng.random() < 0.7 else "{a} " + symbol + " {b}").format(a=a, b=b)
        ask = rng.choice(ASK_JA)
        return ask.format(s=said), ask, False
    if rng.random() < 0.2:
        ask = rng.choice(COMMAND_EN[op])
        return ask.format(a=a, b=b), ask, False
    ask = rng.choice(ASK_EN)
    form = rng.random()
    said = (
        SAY_EN[op]
        if form < 0.4
        else "{a} " + symbol + " {b}"
        if form < 0.8
        else "{a}" + symbol + "{b}"
    )
    return ask.format(e=said.format(a=a, b=b)), ask, False


def sums(rng: random.Random) -> Exchange:
    """One sum."""
    lang = rng.choices(("en", "ko", "ja"), (5, 2, 2))[0]
    op = rng.choices("+-*/", (4, 3, 3, 2))[0]
    single = rng.random() < 0.4
    a, b = operands(rng, op, single)
    if op == "/" and rng.random() < 0.3:
        return _inexact(
            rng,
            lang,
            rng.randint(1, 99),
            rng.randint(0, 9) if rng.random() < 0.2 else rng.randint(2, 9),
        )
    user, ask, bare = _ask(rng, lang, op, a, b)
    result = apply(op, a, b)
    shown = {"*": "×", "/": "÷"}.get(op, op)
    reply = f"{a} {shown} {b} = {result}" if bare else _sentence(lang, op, a, b, result)
    name = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}[op]
    skill = f"arithmetic_{len(str(max(a, b)))}digit_{name}"
    if single:
        skill = "arithmetic_1digit"
    return Exchange(
        skill,
        sum_key(op, a, b, ask + lang),
        user,
        reply,
        Check("number", result),
        ("number", lang, result),
        lang,
    )


def _inexact(rng: random.Random, lang: str, a: int, b: int) -> Exchange:
    """A division with a remainder, or by zero."""
    user, ask, bare = _ask(rng, lang, "/", a, b)
    if b == 0:
        reply = {
            "en": "Nothing can be divided by zero.",
            "ko": "0으로는 나눌 수 없어요.",
            "ja": "0で割ることはできません。",
        }["en" if bare else lang]
        return Exchange(
            "arithmetic_remainder", f"zero|{a}|{ask}", user, reply, exact(reply), None, lang
        )
    result, rest = divmod(a, b)
    if rest == 0:
        reply = f"{a} ÷ {b} = {result}" if bare else _sentence(lang, "/", a, b, result)
    elif bare:
        reply = f"{a} ÷ {b} = {result} remainder {rest}"
    elif lang == "en":
        reply = f"{a} divided by {b} is {result} remainder {rest}."
    elif lang == "ko":
        reply = (
            f"{josa(SAY_KO['/'].format(a=a, b=b), '은', '는')} {result}이고 나머지는 {rest}입니다."
        )
    else:
        reply = f"{a}割る{b}は{result}余り{rest}です。"
    key = f"remainder|{a}|{b}" if rest else sum_key("/", a, b, ask + lang)
    return Exchange("arithmetic_remainder", key, user, reply, exact(reply), None, lang)


def word_sums(rng: random.Random) -> Exchange:
    """Two plus three, in words."""
    op = rng.choice("+-*")
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    if op == "-" and a < b:
        a, b = b, a
    if op == "*":
        a, b = rng.randint(0, 4), rng.randint(0, 4)
    result = apply(op, a, b)
    words = [NUMBER_WORDS[n] for n in (a, b, result)]
    ask = rng.choice(ASK_EN[:12])
    said = SAY_EN[op].format(a=words[0], b=words[1])
    reply = f"{said.capitalize()} is {words[2]}."
    return Exchange(
        "arithmetic_words",
        f"words|{op}|{a}|{b}|{ask}",
        ask.format(e=said),
        reply,
        Check("all", [f"is {words[2]}."]),
        ("number", "en", result),
    )


def too_big(rng: random.Random) -> Exchange:
    """Sums this model cannot do; it says so instead of guessing."""
    lang = rng.choices(("en", "ko", "ja"), (5, 2, 2))[0]
    op = rng.choice("+-*/")
    if op in "*/" and rng.random() < 0.5:
        a, b = rng.randint(10, 999), rng.randint(11, 99)
    else:
        a = rng.randint(1000, 10 ** rng.randint(4, 7))
        b = rng.randint(10, 10 ** rng.randint(2, 7))
        if op in "+-" and rng.random() < 0.3:
            a, b = b, a
    user, _, bare = _ask(rng, lang, op, a, b)
    if bare:  # a bare expression is in no language
        lang = "en"
    return Exchange(
        "arithmetic_too_big",
        f"big|{op}|{a}|{b}",
        user,
        TOO_BIG[lang],
        exact(TOO_BIG[lang]),
        None,
        lang,
    )


def follow_number(rng: random.Random, topic: tuple[object, ...]) -> Exchange:
    """'And plus 3?' after a sum; refused when the result has grown past two digits."""
    lang, value = str(topic[1]), int(str(topic[2]))
    ops = [op for op in "+-*" if value >= 0]
    divisors = [d for d in range(2, 10) if value > 0 and value % d == 0 and value // d <= 20]
    op = rng.choice([*ops, "/"] if divisors and ops else ops or ["+"])
    b = rng.choice(divisors) if op == "/" else rng.randint(1, 9)
    if op == "+" and rng.random() < 0.3:
        b = rng.randint(10, 60)
    if op == "-" and value >= b + 1 and rng.random() < 0.2:
        b = rng.randint(1, min(value, 99))
    ask = rng.choice({"en": THEN_EN, "ko": THEN_KO, "ja": THEN_JA}[lang][op])
    user = ask.format(b=b)
    if not 0 <= value <= (999 if op in "+-" else 99):
        return Exchange(
            "follow_up",
            f"then_big|{op}|{value}|{b}",
            user,
            TOO_BIG[lang],
            exact(TOO_BIG[lang]),
            None,
            lang,
        )
    result = apply(op, value, b)
    return Exchange(
        "follow_up",
        sum_key(op, value, b, ask),
        user,
        _sentence(lang, op, value, b, result),
        Check("number", result),
        ("number", lang, result),
        lang,
    )


def compare(rng: random.Random) -> Exchange:
    """Which is larger; is it even."""
    if rng.random() < 0.4:
        n = rng.randint(0, 999)
        ask = rng.choice(
            ("Is {n} even or odd?", "Is {n} an even number?", "Is {n} odd?", "{n}: even or odd?")
        )
        word = "even" if n % 2 == 0 else "odd"
        return Exchange(
            "compare",
            f"parity|{n}|{ask}",
            ask.format(n=n),
            f"{n} is {word}.",
            exact(f"{n} is {word}."),
        )
    top = rng.choice((9, 99, 99, 999))
    a, b = rng.sample(range(top + 1), 2)
    larger = rng.random() < 0.5
    ask = rng.choice(
        (
            "Which is {w}, {a} or {b}?",
            "Which number is {w}: {a} or {b}?",
            "What is {w}, {a} or {b}?",
            "{w}: {a} or {b}?",
        )
    )
    word = rng.choice(("larger", "bigger", "greater") if larger else ("smaller", "less"))
    win, lose = (max(a, b), min(a, b)) if larger else (min(a, b), max(a, b))
    reply = f"{win} is {word} than {lose}."
    return Exchange(
        "compare",
        f"compare|{a}|{b}|{larger}|{ask}",
        ask.format(w=word, a=a, b=b),
        reply,
        exact(reply),
    )
