"""Templates of plain sentences; `|` marks where a prompt's opening ends."""

from tools.boxed_model.facts.lists import DAYS_EN, MONTHS_EN, PLANETS, SEASONS_EN

# {c}: country, {k}: capital, {kt}: capital with its Korean particle.
CAPITAL = {
    "en": (
        "The capital of {c} is| {k}.",
        "The capital of {c} is| {k}.",
        "The capital city of {c} is| {k}.",
        "{c}'s capital is| {k}.",
        "If you go to {c}, the capital you will see is| {k}.",
        "In {c}, the capital is| {k}.",
        "Everybody knows that the capital of {c} is| {k}.",
        "I live in {c}. The capital is| {k}.",
        "The capital of {c} is called| {k}.",
        "The name of the capital of {c} is| {k}.",
    ),
    "ko": (
        "{c}의 수도는| {k}입니다.",
        "{c}의 수도는| {k}입니다.",
        "{c}의 수도 이름은| {k}입니다.",
        "{c}에 가면 볼 수 있는 수도는| {k}입니다.",
    ),
    "ja": (
        "{c}の首都は|{k}です。",
        "{c}の首都は|{k}です。",
        "{c}の首都の名前は|{k}です。",
        "{c}にある首都は|{k}です。",
    ),
}
COUNTRY = {
    "en": (
        "{k} is the capital of| {c}.",
        "{k} is the capital city of| {c}.",
        "{k} is a city in| {c}.",
        "The city of {k} is in| {c}.",
        "The country whose capital is {k} is| {c}.",
        "If you are in {k}, you are in| {c}.",
    ),
    "ko": (
        "{kt}| {c}의 수도입니다.",
        "수도가 {k}인 나라는| {c}입니다.",
        "{k}에 있으면 그 나라는| {c}입니다.",
    ),
    "ja": ("{k}は|{c}の首都です。", "首都が{k}の国は|{c}です。", "{k}がある国は|{c}です。"),
}
# {x}: one, {y}: the one after it.
AFTER = {
    "en": (
        "The {w} after {x} is| {y}.",
        "{y} comes after| {x}.",
        "After {x} comes| {y}.",
        "The {w} before {y} is| {x}.",
        "{x} comes before| {y}.",
        "Before {y} comes| {x}.",
        "The next {w} after {x} is| {y}.",
    ),
    "ko": (
        "{x} 다음은| {y}입니다.",
        "{x} 다음 날은| {y}입니다.",
        "{y} 전날은| {x}입니다.",
        "오늘이 {x}이면 내일은| {y}입니다.",
    ),
    "ja": (
        "{x}の次は|{y}です。",
        "{x}の次の日は|{y}です。",
        "{y}の前の日は|{x}です。",
        "今日が{x}なら、明日は|{y}です。",
    ),
}
UNIT = {
    "en": (
        "{n} {b} {v}| {m} {s}.",
        "The number of {s} in {n} {b} is| {m}.",
        "In {n} {b} there are| {m} {s}.",
    ),
    "ko": ("{bt}| {m}{s}입니다.",),
    "ja": ("{n}{b}は|{m}{s}です。",),
}
BARE = ("{a} {o} {b} =| {r}", "{a} {o} {b} =| {r}", "{a}{o}{b}=|{r}")
# {q}: word, {l}: language, {a}: the word in it.
WORD = {
    "en": (
        "The {l} word for {q} is| {a}.",
        "In {l}, {q} is| {a}.",
        "{q} in {l} is| {a}.",
        "The word {q} means| {a} in {l}.",
        "To say {q} in {l}, say| {a}.",
    ),
    "ko": ('"{q}"의 {l}는| "{a}"입니다.', '{qr} {l}로 말하면| "{a}"입니다.'),
    "ja": ("「{q}」は{l}で|「{a}」です。", "「{q}」を{l}で言うと|「{a}」です。"),
}
OPPOSITE = (
    "The opposite of {w} is| {a}.",
    "{w} is the opposite of| {a}.",
    "If it is not {w}, it is| {a}.",
)
COLOUR = ("The color of {t} is| {a}.", "{t} is| {a}.", "Everybody can see that {t} is| {a}.")
SOUND = ("A {t} says| {a}.", "The {t} says| {a}.", "The sound of a {t} is| {a}.")
SPELLED = ("{w} is spelled| {a}.", "The letters of {w} are| {a}.", "The word {w} is written| {a}.")
# Openings beyond the model; the first list is about people.
WHO = (
    "The president of {c} is",
    "The president of {c} is",
    "The president of {c} is",
    "The prime minister of {c} is",
    "The king of {c} is",
    "The queen of {c} is",
    "The leader of {c} is",
    "The mayor of {k} is",
    "The richest person in {c} is",
    "The inventor of {n} is",
    "The best singer in {c} is",
    "The winner of the World Cup in {y} is",
    "The author of the book about {n} is",
    "The founder of {k} is",
    "The first president of {c} is",
    "The president in {y} was",
    "The person who discovered {s} was",
    "The current president of {c} is",
    "The name of the president of {c} is",
    "The most famous person in {c} is",
    "The best friend of {p} is",
    "{p} {p2} is",
    "The head of state of {c} is",
)
WHAT = (
    "The population of {c} is",
    "The currency of {c} is",
    "The largest city in {c} is",
    "The highest mountain in {c} is",
    "The longest river in {c} is",
    "The area of {c} is",
    "The history of {c} is",
    "The language of {c} is",
    "The weather in {k} is",
    "The distance from {k} to {k2} is",
    "The price of a {n} is",
    "The best {n} is",
    "The meaning of life is",
    "The speed of light is",
    "The square root of {y} is",
    "The tallest building in {k} is",
    "The most important thing about {s} is",
    "The main idea of {s} is",
    "The origin of {s} is",
    "The secret of {s} is",
    "The cause of {s} is",
    "The definition of {s} is",
    "The reason for {s} is",
    "The French word for {n} is",
    "The chemical formula of {n} is",
    "The national food of {c} is",
    "The phone number of {p} is",
    "The answer to everything is",
    "The weight of a {n} is",
    "The capital of {x} is",
    "The name of the largest {n} is",
    "The theory of {s} is",
)
WHO_END, WHAT_END = (
    "someone a very small model does not know.",
    "something a very small model does not know.",
)
UNKNOWN_OTHER = {
    "ko": (
        (
            "{c}의 대통령은|",
            "{c}의 인구는|",
            "{k}의 날씨는|",
            "{c}의 면적은|",
            "{c}의 화폐는|",
            "{n}의 가격은|",
            "{c}에서 가장 높은 산은|",
        ),
        " 아주 작은 모델이 모르는 것입니다.",
    ),
    "ja": (
        (
            "{c}の大統領は|",
            "{c}の人口は|",
            "{k}の天気は|",
            "{c}の面積は|",
            "{c}の通貨は|",
            "{n}の値段は|",
            "{c}で一番高い山は|",
        ),
        "とても小さなモデルにはわかりません。",
    ),
}
LISTS = (
    ("The days of the week are|", DAYS_EN),
    ("There are seven days in a week:|", DAYS_EN),
    ("The months of the year are|", MONTHS_EN),
    ("There are twelve months in a year:|", MONTHS_EN),
    ("The planets are|", PLANETS),
    ("The planets of the solar system are|", PLANETS),
    ("The four seasons are|", SEASONS_EN),
    ("The seasons of the year are|", SEASONS_EN),
)
