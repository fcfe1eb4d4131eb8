"""Open-ended plain text: introductions, the future of things, small talk, short stories.

No opening here has one right end, so none is held out, except stories: there, hero and opening.
"""

import random

from tools.boxed_model.dialog import Check, Passage
from tools.boxed_model.facts.countries import COUNTRIES
from tools.boxed_model.facts.lists import NAMES, NAMES_JA, NAMES_KO
from tools.boxed_model.facts.words import PLAIN_COLOURS, WORDS
from tools.boxed_model.skills import stories
from tools.boxed_model.skills.unknown import SUBJECTS

SELF = " Quire. I am a very small language model."
NAME_OPEN = (
    "Hello, my name is",
    "Hello, my name is",
    "Hello, my name is",
    "Hi, my name is",
    "My name is",
    "Hello! My name is",
    "Hello, I am",
    "Hi, I'm",
    "Good morning, my name is",
    "Hey, my name is",
    "Hello everyone, my name is",
    "Dear friends, my name is",
)
NAME_REST = (
    " {p} and I live in {k}.",
    " {p} and I come from {c}.",
    " {p}. I live in {k}, the capital of {c}.",
    " {p}. Nice to meet you!",
    " {p}. I like {n} and {m}.",
    " {p}. My favorite color is {o}.",
    " {p} and I have a small {a}.",
    " {p}. I am from {c}.",
    " {p}. I am learning Korean and Japanese.",
    " {p}, and this is my friend {p2}.",
    " {p} and I am happy to be here.",
)
AI_OPEN = (
    "The future of AI is",
    "The future of AI is",
    "The future of AI is",
    "The future of AI is",
    "The future of artificial intelligence is",
    "I think the future of AI is",
    "AI is",
    "Artificial intelligence is",
    "In the future, AI will be",
)
OTHER_OPEN = (
    "The future of {s} is",
    "The future of {n} is",
    "The future of {c} is",
    "The future is",
    "Our future is",
    "The future of the world is",
    "The future of computers is",
    "The future of small models is",
    "The future of work is",
    "The future of school is",
    "Tomorrow is",
)
FUTURE_REST = (
    " bright.",
    " bright, and there is room for small models too.",
    " bright, and there is room for small models too.",
    " in the hands of the people who build it with care.",
    " still being written, one small step at a time.",
    " open, and everybody can help to shape it.",
    " full of questions and good ideas.",
    " hard to see, but it begins with something small.",
    " a story that we write together.",
)
FUTURE_MORE = (
    " Small models can help people every day.",
    " It begins with people who like to learn.",
    " Nobody knows all of it today.",
    " Let us be kind and careful.",
    " Good tools are made by many hands.",
)
OPEN_ENDED: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("The weather today is", "Today the weather is", "It was a day that was"),
        (" sunny and warm.", " cold, but the sky is blue.", " fine, so we go for a walk."),
    ),
    (
        ("My favorite food is", "I like to eat", "For breakfast I have"),
        (
            " bread with butter and honey.",
            " rice with a little soup.",
            " fresh fruit and a cup of tea.",
        ),
    ),
    (
        ("Today I", "Yesterday I", "This morning I", "Last night I"),
        (
            " read a book about the stars.",
            " met an old friend at the market.",
            " found a small key in the garden.",
        ),
    ),
    (
        ("I am", "I'm", "Right now I am"),
        (
            " a very small model, but I do my best.",
            " happy to see you.",
            " in the kitchen and the soup is hot.",
        ),
    ),
    (
        ("I love", "I like", "We love", "We like"),
        (
            " the sea and the long days of summer.",
            " music, books and a good cup of coffee.",
            " to walk in the forest after the rain.",
        ),
    ),
    (
        ("I think", "I think that", "I believe that", "She said that", "He said that"),
        (
            " small things can be beautiful.",
            " it is time to go home.",
            " a good friend is worth more than gold.",
        ),
    ),
    (
        (
            "The best way to learn is",
            "The secret of happiness is",
            "The best thing in life is",
            "The meaning of friendship is",
        ),
        (
            " to start small and to go on every day.",
            " to share what you have.",
            " a quiet evening with good friends.",
        ),
    ),
    (
        ("There is", "There was", "Here is", "On the table there is"),
        (
            " a small house near the river.",
            " a letter on the table.",
            " an old tree in front of the school.",
        ),
    ),
    (
        (
            "In the beginning",
            "In the morning",
            "In the evening",
            "One day",
            "At night",
            "Every day",
            "In the summer",
        ),
        (
            " the birds sing in the garden.",
            " the town is quiet and the stars are bright.",
            " a little boat goes down the river.",
        ),
    ),
    (
        (
            "Hello",
            "Hello,",
            "Hello world",
            "Hello, world!",
            "Hi",
            "Hi there",
            "Good morning",
            "Hello there",
            "Welcome",
            "Dear friend,",
        ),
        (
            " and welcome! This is a very small language model.",
            " and good day to you.",
            " from a very small model in a box.",
        ),
    ),
    (
        ("Hello!", "Hi!", "Good morning!", "Hello there!", "Hey!"),
        (" This is a very small language model.", " How nice to see you."),
    ),
    (
        (
            "Language models are",
            "A language model is",
            "Large language models are",
            "Small models are",
            "This model is",
            "Quire is",
            "Machine learning is",
        ),
        (
            " made of many small numbers.",
            " something that writes one word after another.",
            " fun to try, but this one is only a toy.",
        ),
    ),
    (("The quick brown fox",), (" jumps over the lazy dog.",)),
    (
        ("Roses are red,", "Roses are red"),
        (" violets are blue, this model is small, and happy to see you.",),
    ),
    (
        (
            "The cat",
            "The dog",
            "My cat",
            "My dog",
            "The old man",
            "The little girl",
            "The boy",
            "The teacher",
        ),
        (
            " sat near the window and looked at the rain.",
            " went to the market and came home with a fish.",
            " likes to sleep under the big tree.",
        ),
    ),
    (
        ("It is", "It was", "This is", "That is", "It"),
        (" a good day for a walk.", " a small thing, but it works.", " time for a cup of tea."),
    ),
    (
        ("If you want to be happy,", "If it rains,", "When I grow up,", "When the sun comes up,"),
        (
            " take an umbrella and a good book with you.",
            " the whole town wakes up.",
            " start with something small.",
        ),
    ),
    (
        ("Thank you for", "Thanks for"),
        (" your help. It was very kind of you.", " the letter. I was happy to read it."),
    ),
    (
        (
            "The sun",
            "The moon",
            "The sea",
            "The river",
            "The city",
            "The world",
            "Life",
            "Music",
            "A book",
            "Love",
        ),
        (
            " is bigger than we think.",
            " is beautiful in the evening.",
            " has many stories to tell.",
        ),
    ),
    (
        ("We", "They", "You", "She", "He", "People"),
        (
            " walked along the river and sang a song.",
            " went home when the stars came out.",
            " had bread and cheese under a tree.",
        ),
    ),
    (
        ("How to make tea:", "A recipe for tea:"),
        (" boil the water, put the tea in a cup, pour, wait three minutes, and drink.",),
    ),
    (
        ("My dream is to", "I want to", "I would like to", "We want to", "My plan is to"),
        (" see the sea.", " learn something new every day.", " travel to {k} and see the city."),
    ),
    (
        ("My friend {p}", "My sister {p}", "My brother {p}", "{p} and {p2}", "{p}"),
        (
            " lived in {k} for a year.",
            " went to {k} in the summer.",
            " came to see us with a basket of apples.",
        ),
    ),
)
STORY_OPEN = (
    "Once upon a time there was a little {h}| named {p}.",
    "Once upon a time, there was a small {h}| called {p}.",
    "Once upon a time a {h}| named {p} lived near a river.",
    "There was once a {h}| called {p} who lived in a quiet forest.",
    "Long ago a {h}| named {p} lived in a little house on a hill.",
    "This is the story of a {h}| named {p}.",
)
STORY_ANY = (
    "Once upon a time| there was a little {h} named {p}.",
    "Once upon a time,| there was a small {h} called {p}.",
    "Once upon a time, in a| quiet forest, there lived a {h} named {p}.",
    "Once upon a time there was| a little {h} named {p}.",
    "Long ago,| a {h} named {p} lived in a little house on a hill.",
    "Once there was| a {h} called {p} who lived in a quiet forest.",
    "Here is a short story.| A small {h} named {p} lived near a river.",
)
KO = (
    (
        ("안녕하세요, 제 이름은", "제 이름은", "안녕하세요. 저는"),
        (" {name_ko}입니다. 만나서 반갑습니다.", " {name_ko}입니다. {k_ko}에 살아요."),
    ),
    (("인공지능의 미래는", "미래는", "AI의 미래는"), (" 밝습니다.", " 우리가 함께 만들어 갑니다.")),
    (("오늘 날씨는", "오늘은 날씨가"), (" 맑고 따뜻합니다.", " 좋아서 산책을 합니다.")),
    (("안녕하세요", "안녕하세요!", "반갑습니다"), (" 저는 아주 작은 언어 모델입니다.",)),
    (
        ("옛날 옛적에", "옛날에", "어느 날"),
        (
            " 작은 여우가 숲에 살았습니다. 여우는 달을 보고 싶었습니다. 그날 밤 여우는 언덕에 올라 달을 보았습니다.",
            " 작은 고양이가 강 옆에 살았습니다. 고양이는 친구를 찾았습니다. 마침내 둘은 좋은 친구가 되었습니다.",
        ),
    ),
    (("저는", "나는"), (" 아주 작은 모델이지만 열심히 합니다.", " 책과 음악을 좋아합니다.")),
)
JA = (
    (
        ("こんにちは、私の名前は", "私の名前は", "はじめまして。私は"),
        ("{name_ja}です。よろしくお願いします。", "{name_ja}です。{k_ja}に住んでいます。"),
    ),
    (("人工知能の未来は", "未来は", "AIの未来は"), ("明るいです。", "みんなで作るものです。")),
    (("今日の天気は", "今日は天気が"), ("良いので散歩をします。", "良くて、空が青いです。")),
    (("こんにちは", "こんにちは!", "はじめまして"), ("。私はとても小さな言語モデルです。",)),
    (
        ("昔々", "むかしむかし", "ある日"),
        (
            "、小さな狐が森に住んでいました。狐は月を見たいと思いました。その夜、狐は丘に登って月を見ました。",
            "、小さな猫が川のそばに住んでいました。猫は友達を探していました。とうとう二匹は良い友達になりました。",
        ),
    ),
    (("私は", "僕は"), ("とても小さなモデルですが、がんばります。", "本と音楽が好きです。")),
)
_NOUNS = tuple(w for w, _, _ in WORDS[:150] if " " not in w)
_FOODS = (
    "apples",
    "bread",
    "cheese",
    "tea",
    "coffee",
    "music",
    "books",
    "soup",
    "rain",
    "snow",
    "flowers",
    "cats",
    "dogs",
    "songs",
)


def _open(opening: str, rest: str, lang: str = "en", alone: bool = False) -> Passage:
    return Passage("plain_open", None, opening, rest, Check("long", ["", 3]), lang, alone)


def introduction(rng: random.Random) -> Passage:
    """'Hello, my name is' and what people say next."""
    opening, row = rng.choice(NAME_OPEN), rng.choice(COUNTRIES)
    if rng.random() < 0.3:
        return _open(opening, SELF, alone=rng.random() < 0.7)
    names, foods = rng.sample(NAMES, 2), rng.sample(_FOODS, 2)
    rest = rng.choice(NAME_REST).format(
        p=names[0],
        p2=names[1],
        c=row.en[0],
        k=row.capital_en,
        n=foods[0],
        m=foods[1],
        o=rng.choice(PLAIN_COLOURS),
        a=rng.choice(stories.HEROES[:11]),
    )
    return _open(opening, rest.replace("..", "."), alone=rng.random() < 0.7)


def future(rng: random.Random) -> Passage:
    """The future of AI and of other things."""
    opening = rng.choice(AI_OPEN if rng.random() < 0.6 else OTHER_OPEN)
    opening = opening.format(
        s=rng.choice(SUBJECTS), n=rng.choice(_NOUNS), c=rng.choice(COUNTRIES).en[0]
    )
    rest = rng.choice(FUTURE_REST)
    if rng.random() < 0.4:
        rest += rng.choice(FUTURE_MORE)
    return _open(opening, rest, alone=rng.random() < 0.7)


def open_ended(rng: random.Random) -> Passage:
    """Everyday openings and harmless ends, in three languages."""
    lang = rng.choices(("en", "ko", "ja"), (6, 2, 2))[0]
    openings, rests = rng.choice({"en": OPEN_ENDED, "ko": KO, "ja": JA}[lang])
    names, row = rng.sample(NAMES, 2), rng.choice(COUNTRIES)
    values = {
        "p": names[0],
        "p2": names[1],
        "k": row.capital_en,
        "k_ko": row.capital_ko,
        "k_ja": row.capital_ja,
        "name_ko": rng.choice(NAMES_KO),
        "name_ja": rng.choice(NAMES_JA),
    }
    opening, rest = (rng.choice(part).format(**values) for part in (openings, rests))
    return _open(opening, rest.replace("..", "."), lang, alone=rng.random() < 0.4)


def story(rng: random.Random) -> Passage:
    """A story of four to six sentences."""
    hero = rng.choice(stories.HEROES if rng.random() < 0.6 else _NOUNS[20:])
    named = rng.random() < 0.5
    first = rng.choice(STORY_OPEN if named else STORY_ANY)
    parts = [first, rng.choice(stories.WISH)]
    if rng.random() < 0.7:
        parts += [rng.choice(stories.MEET), rng.choice(stories.SAY)]
    if rng.random() < 0.4 or len(parts) == 2:
        parts.append(
            rng.choice(stories.TURN)
            if len(parts) > 2
            else "{p} looked everywhere and laughed a lot."
        )
    parts.append(rng.choice(stories.END if len(parts) > 3 else stories.END[2:3]))
    other = rng.choice([h for h in stories.HEROES if h != hero])
    text = stories.fix_article(" ".join(parts).format(h=hero, p=rng.choice(NAMES), o=other))
    opening, rest = text.split("|")
    return Passage(
        "plain_stories",
        f"plain|story|{hero}|{first}" if named else None,
        opening,
        rest,
        Check("long", ["", 80]),
        alone=True,
    )
