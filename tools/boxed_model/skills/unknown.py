"""Questions beyond the model: it says that it does not know instead of inventing an answer.

Breadth matters more than depth here: many question shapes times many fillers.
"""

import random

from tools.boxed_model.dialog import Exchange, exact
from tools.boxed_model.facts.countries import COUNTRIES
from tools.boxed_model.facts.lists import NAMES
from tools.boxed_model.facts.words import LONGER_WORDS, OPPOSITES, WORDS
from tools.boxed_model.skills.chat import OPPOSITE
from tools.boxed_model.skills.tool_use import FAMILIES, draw_values
from tools.boxed_model.skills.translation import ASK_EN as ASK_TRANSLATION
from tools.boxed_model.skills.translation import QUOTES

NOUNS = tuple(w for w, _, _ in WORDS[:200] if " " not in w) + LONGER_WORDS
_UNTRANSLATED = tuple(
    sorted(set(LONGER_WORDS) - {w for w, _, _ in WORDS} - {w for p in OPPOSITES for w in p})
)
_NOUNS_KO = tuple(k for _, k, _ in WORDS[:200])
_NOUNS_JA = tuple(j for _, _, j in WORDS[:200])
SUBJECTS = (
    "quantum physics",
    "the French Revolution",
    "photosynthesis",
    "the stock market",
    "black holes",
    "machine learning",
    "the Roman Empire",
    "evolution",
    "the theory of relativity",
    "inflation",
    "climate change",
    "the Second World War",
    "DNA",
    "philosophy",
    "democracy",
    "the internet",
    "gravity",
    "blockchain",
    "neural networks",
    "the big bang",
    "cooking pasta",
    "chess openings",
    "the Olympic Games",
    "Shakespeare",
    "Beethoven",
    "the Mona Lisa",
    "the pyramids",
    "vaccines",
    "electric cars",
    "space travel",
    "the human brain",
    "volcanoes",
    "dinosaurs",
    "football",
    "tennis",
    "jazz",
    "Python programming",
    "Rust",
    "databases",
    "operating systems",
    "compilers",
    "poetry",
    "astronomy",
    "medicine",
    "taxes",
    "insurance",
    "the moon landing",
    "robots",
    "Napoleon",
    "Einstein",
    "Newton",
    "Picasso",
    "Mozart",
    "Cleopatra",
    "Darwin",
    "Gandhi",
)
# {s}: subject, {n}: noun, {c}: country, {k}: capital, {p}: person, {y}: year, {x}: made-up place
ASK_EN = (
    "Explain {s}.",
    "Explain {s} to me.",
    "What is {s}?",
    "Tell me about {s}.",
    "Who invented {n}?",
    "Who discovered {s}?",
    "Write an essay about {s}.",
    "Write a program about {n}.",
    "Why is {s} important?",
    "How does {s} work?",
    "When did {s} start?",
    "What caused {s}?",
    "Summarize {s}.",
    "What do you think about {s}?",
    "Give me advice about {s}.",
    "What's the history of {s}?",
    "Who is the president of {c}?",
    "What is the population of {c}?",
    "How big is {c}?",
    "What language do they speak in {c}?",
    "What is the currency of {c}?",
    "Who is the king of {c}?",
    "What is the history of {c}?",
    "What food is famous in {c}?",
    "Where is the best hotel in {k}?",
    "How far is {k} from {k2}?",
    "What is the weather in {k}?",
    "What time is it in {k}?",
    "How do I get to {k}?",
    "How many people live in {k}?",
    "When was {k} founded?",
    "What can I see in {k}?",
    "What is the highest mountain in {c}?",
    "What is the longest river in {c}?",
    "Who won the election in {c}?",
    "What is the largest city in {c}?",
    "Which countries border {c}?",
    "Is {c} in Europe?",
    "What is the area of {c}?",
    "What is the flag of {c}?",
    "What is the anthem of {c}?",
    "Who won the World Cup in {y}?",
    "What happened in {y}?",
    "Who was president in {y}?",
    "Which movie won in {y}?",
    "Who wrote the book about {n}?",
    "What is the best {n}?",
    "How do I make {n}?",
    "How do I repair a {n}?",
    "Where can I buy {n}?",
    "How much does a {n} cost?",
    "What is the meaning of {n}?",
    "Define {n}.",
    "Why do people like {n}?",
    "Is {n} healthy?",
    "What is {n} made of?",
    "Where does {n} come from?",
    "How old is the oldest {n}?",
    "How heavy is a {n}?",
    "How tall is {p}?",
    "Who is {p}?",
    "How old is {p}?",
    "Where does {p} live?",
    "What does {p} do?",
    "When is {p}'s birthday?",
    "What is {p}'s phone number?",
    "Is {p} married?",
    "Do you know {p}?",
    "What is the capital of {x}?",
    "Capital of {x}?",
    "Where is {x}?",
    "What's {x}'s capital?",
    "Which country has the capital {x}?",
    "What is {x}?",
    "Who is {x}?",
    "What does {x} mean?",
    "What is the capital of {p}?",
    "What is the capital of the {n}?",
    "What is {x} in Korean?",
    "Write Python code for {n}.",
    "Write a function that sorts {n}.",
    "Fix my code.",
    "Write a C program.",
    "How do I install {n}?",
    "What is the meaning of life?",
    "What's the news today?",
    "What day is it today?",
    "What time is it?",
    "What is today's date?",
    "What's the weather?",
    "What's the weather like today?",
    "Who will win the game tonight?",
    "What should I eat tonight?",
    "What is the speed of light?",
    "What's the tallest building in the world?",
    "Who painted the Mona Lisa?",
    "Who wrote Hamlet?",
    "What is the square root of {y}?",
    "What is pi?",
    "Solve the equation x + {y} = 3x.",
    "Prove it.",
    "Integrate x squared.",
    "What is the derivative of {n}?",
    "How many stars are there?",
    "Is there a god?",
    "Recommend a book about {s}.",
    "Recommend a movie.",
    "Suggest a name for my {n}.",
    "Plan a trip to {c}.",
    "Can you book a flight to {k}?",
    "Order a {n} for me.",
    "Call {p}.",
    "Play some music.",
    "Show me a picture of a {n}.",
    "Draw a {n}.",
    "Search the internet for {n}.",
    "Open the {n}.",
    "Write a letter to {p}.",
    "Write a poem about {s}.",
    "What did {p} say about {s}?",
    "Compare {s} and {s2}.",
    "What is the difference between {n} and {n2}?",
    "Translate this text into French: {n} {n2}",
    "How do you say {n} in French?",
    "What is {n} in German?",
    "What is {n} in Spanish?",
    "What is {n} in Chinese?",
    "Translate {n} into Italian.",
    "{n} in Russian?",
    "Which is better, {n} or {n2}?",
    "What is the chemical formula of {n}?",
    "What's the scientific name of the {n}?",
    "Should I buy {n}?",
    "Give me a recipe for {n}.",
    "How many calories does {n} have?",
    "Are {n}s dangerous?",
    "What year was {s} invented?",
    "Who is the founder of {s}?",
    "Where was {p} born?",
    "How do planes fly?",
    "Why is the sky blue?",
    "Why do we sleep?",
    "How does a {n} work?",
    "What's your favorite {n}?",
    "Can a {n} fly?",
    "Which {n} is the biggest?",
    "How many {n}s are there in the world?",
    "Should I sell my {n}?",
)
ASK_KO = (
    "{c}의 인구는?",
    "{c}의 대통령은 누구야?",
    "{c}의 역사를 알려줘.",
    "{c}의 화폐는 뭐야?",
    "{c}의 면적은?",
    "{k}의 날씨는 어때?",
    "{k}의 인구는 몇 명이야?",
    "오늘 날씨 어때?",
    "지금 몇 시야?",
    "오늘은 며칠이야?",
    "{n}의 역사를 설명해 줘.",
    "{n} 만드는 법 알려줘.",
    "{n} 가격이 얼마야?",
    "{n} 추천해 줘.",
    "{n}에 대해 설명해 줘.",
    "{n}에 대해 글을 써 줘.",
    "{n}에 대해 어떻게 생각해?",
    "{n} 어디서 살 수 있어?",
    "{y}년에 무슨 일이 있었어?",
    "{y}년 월드컵은 누가 이겼어?",
    "양자역학을 설명해 줘.",
    "상대성 이론이 뭐야?",
    "인공지능이 뭐야?",
    "파이썬 코드를 짜 줘.",
    "인생의 의미는 뭐야?",
    "뉴스 알려줘.",
    "주식 추천해 줘.",
    "블랙홀이 뭐예요?",
    "{x}의 수도는?",
    "{x}의 수도는 어디야?",
    "{x}는 뭐야?",
    "{n}의 뜻이 뭐야?",
    "{n}는 프랑스어로 뭐야?",
    "{n}를 중국어로 번역해 줘.",
    "영화 추천해 줘.",
    "저녁 뭐 먹을까?",
    "{c}에서 제일 높은 산은?",
    "{c}에서 가장 큰 도시는?",
    "노래 불러 줘.",
    "{n} 그려 줘.",
    "이순신이 누구야?",
)
ASK_JA = (
    "{c}の人口は?",
    "{c}の大統領は誰ですか?",
    "{c}の歴史を教えて。",
    "{c}の通貨は何ですか?",
    "{c}の面積は?",
    "{k}の天気は?",
    "{k}の人口は何人ですか?",
    "今日の天気は?",
    "今何時ですか?",
    "今日は何日ですか?",
    "{n}の歴史を説明して。",
    "{n}の作り方を教えて。",
    "{n}はいくらですか?",
    "{n}のおすすめは?",
    "{n}について説明してください。",
    "{n}についてどう思いますか?",
    "{n}はどこで買えますか?",
    "{n}について書いて。",
    "{y}年に何がありましたか?",
    "{y}年のワールドカップは誰が勝ちましたか?",
    "量子力学を説明して。",
    "相対性理論とは何ですか?",
    "人工知能とは何ですか?",
    "Pythonのコードを書いて。",
    "人生の意味は何ですか?",
    "ニュースを教えて。",
    "株のおすすめは?",
    "ブラックホールとは何ですか?",
    "{x}の首都は?",
    "{x}の首都はどこですか?",
    "{x}とは何ですか?",
    "{n}の意味は?",
    "{n}はフランス語で何ですか?",
    "{n}を中国語に訳して。",
    "映画のおすすめは?",
    "夕食は何がいいですか?",
    "{c}で一番高い山は?",
    "{c}で一番大きい都市は?",
    "歌を歌って。",
    "{n}の絵を描いて。",
    "織田信長は誰ですか?",
)
REPLY = {
    "en": "Sorry, I don't know that. I'm a very small model.",
    "ko": "그건 잘 모르겠어요. 저는 아주 작은 모델이에요.",
    "ja": "それはわかりません。とても小さなモデルなので。",
}


_REAL = {
    n.lower()
    for c in COUNTRIES
    for n in (*c.en, *c.ko, *c.ja, c.capital_en, c.capital_ko, c.capital_ja)
}


def made_up(rng: random.Random, lang: str) -> str:
    """A place that does not exist."""
    while (place := _syllables(rng, lang)).lower() in _REAL:
        pass
    return place


def _syllables(rng: random.Random, lang: str) -> str:
    if lang == "ko":
        return "".join(
            rng.choice("가나다라마바사아자카타파하로무쿠피네도스트리")
            for _ in range(rng.randint(2, 4))
        )
    if lang == "ja":
        return "".join(
            rng.choice("アイウエカキクケサシスタテトナニノマミムラリルロン")
            for _ in range(rng.randint(3, 5))
        )
    if rng.random() < 0.2:
        return rng.choice(
            (
                "Narnia",
                "Atlantis",
                "Wakanda",
                "Gondor",
                "Mordor",
                "Oz",
                "Wonderland",
                "Neverland",
                "Utopia",
                "El Dorado",
                "Mars",
                "the moon",
                "Hogwarts",
                "Asgard",
            )
        )
    word = "".join(
        rng.choice("b c d f g h k l m n p r s t v z br dr gr kr st tr".split())
        + rng.choice(("a", "e", "i", "o", "u", "ai", "ou"))
        for _ in range(rng.randint(2, 3))
    )
    return word.capitalize() + rng.choice(("", "", "land", "ia", "stan", "n", "ville"))


def unknown(rng: random.Random) -> Exchange:
    """An out-of-scope question and the refusal."""
    if rng.random() < 0.12:
        return _unknown_word(rng)
    lang = rng.choices(("en", "ko", "ja"), (6, 2, 2))[0]
    ask = rng.choice({"en": ASK_EN, "ko": ASK_KO, "ja": ASK_JA}[lang])
    country = rng.choice(COUNTRIES)
    city = {"en": country.capital_en, "ko": country.capital_ko, "ja": country.capital_ja}[lang]
    nouns = {"en": NOUNS, "ko": _NOUNS_KO, "ja": _NOUNS_JA}[lang]
    user = ask.format(
        s=rng.choice(SUBJECTS),
        s2=rng.choice(SUBJECTS),
        n=rng.choice(nouns),
        n2=rng.choice(nouns),
        c={"en": country.en, "ko": country.ko, "ja": country.ja}[lang][0],
        k=city,
        k2=rng.choice(COUNTRIES).capital_en,
        y=rng.randint(1900, 2030),
        x=made_up(rng, lang),
        p=rng.choice(NAMES) + ("" if rng.random() < 0.5 else " " + rng.choice(NAMES)),
    )
    return Exchange(
        f"unknown_{lang}", f"unknown|{user}", user, REPLY[lang], exact(REPLY[lang]), None, lang
    )


def _unknown_word(rng: random.Random) -> Exchange:
    """A word whose translation or opposite is not in the tables."""
    word = rng.choice(_UNTRANSLATED) if rng.random() < 0.7 else _syllables(rng, "en").lower()
    if rng.random() < 0.3:
        ask = rng.choice(OPPOSITE)
        user = ask.format(w=word)
    else:
        ask = rng.choice(ASK_TRANSLATION)
        user = ask.format(q=rng.choice(QUOTES).format(w=word), l=rng.choice(("Korean", "Japanese")))
    return Exchange("unknown_en", f"unknown|{user}", user, REPLY["en"], exact(REPLY["en"]))


def no_tools(rng: random.Random) -> Exchange:
    """A question for a tool when there is none."""
    return no_such_tool(rng, set())


def no_such_tool(rng: random.Random, present: set[tuple[str, ...]]) -> Exchange:
    """A question some tool could answer, but not one of those present (given by their names)."""
    family = rng.choice([f for f in FAMILIES if f.names not in present and f.params[0][2] != "big"])
    ask = rng.choice(family.asks)
    user = ask.format(*draw_values(rng, family))
    lang = "ja" if "の" in ask or "は" in ask else "ko" if "날씨" in ask or "지금" in ask else "en"
    return Exchange(
        "no_tool_fits", f"notool|{user}", user, REPLY[lang], exact(REPLY[lang]), None, lang
    )
