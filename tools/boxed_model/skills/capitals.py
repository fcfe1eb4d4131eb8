"""Capitals of countries, both ways, in three languages, and the follow-ups they invite."""

import random

from tools.boxed_model.dialog import Exchange, contains, josa
from tools.boxed_model.facts.countries import COUNTRIES

# {c}: country. Phrasings of the forward question.
ASK_EN = (
    "What is the capital of {c}?",
    "What's the capital of {c}?",
    "Capital of {c}?",
    "capital of {c}",
    "Which city is the capital of {c}?",
    "Tell me the capital of {c}.",
    "Name the capital of {c}.",
    "What is {c}'s capital?",
    "What's {c}'s capital city?",
    "What is the capital city of {c}?",
    "Do you know the capital of {c}?",
    "Can you tell me the capital of {c}?",
    "Could you tell me what the capital of {c} is?",
    "I need the capital of {c}.",
    "{c} capital",
    "{c}: capital?",
    "The capital of {c} is?",
    "The capital of {c} is",
    "I forgot the capital of {c}. What is it?",
    "Which city is {c}'s capital?",
    "What city is the capital of {c}?",
    "Give me the capital of {c}.",
    "In which city is the government of {c}?",
    "Where is the government of {c}?",
    "Quiz: capital of {c}?",
    "Is there a capital in {c}?",
    "I'm traveling to {c}. What is its capital?",
    "I'm going to {c}, what's the capital?",
    "I live in {c}. Which city is my capital?",
    "We visited {c}. What was the capital again?",
    "what is capital of {c}",
    "whats the capital of {c}",
    "capital city of {c}?",
    "capital city {c}",
    "Which city do they govern {c} from?",
    "From which city is {c} governed?",
    "What's the main city of {c}?",
    "The capital city of {c} is called",
    "Let me know the capital of {c}.",
    "Any idea what the capital of {c} is?",
    "Do you happen to know {c}'s capital?",
    "For homework: what is the capital of {c}?",
    "My teacher asked for the capital of {c}.",
    "Which is the capital of {c}?",
    "{c}'s capital?",
    "I would like to know the capital of {c}.",
    "Help me: what is the capital of {c}?",
    "Please name {c}'s capital.",
    "What do you call the capital of {c}?",
)
BRIEF_EN = (
    "What is the capital of {c}? Answer in one word.",
    "Capital of {c}? Just the name.",
    "What is the capital of {c}? Only the name, please.",
    "One word: capital of {c}?",
)
ASK_KO = (
    "{c}의 수도는?",
    "{c}의 수도는 어디인가요?",
    "{c}의 수도는 어디야?",
    "{c}의 수도는 어디입니까?",
    "{c} 수도는?",
    "{c} 수도가 어디야?",
    "{c} 수도",
    "{c}의 수도를 알려줘.",
    "{c}의 수도를 알려주세요.",
    "{c}의 수도가 뭐야?",
    "{c}의 수도 이름은?",
    "{c} 수도 좀 알려줘",
    "{c}의 수도는 무엇인가요?",
    "{c}의 수도를 말해 줘.",
    "{c} 수도는 어디예요?",
    "{c}의 수도가 어디인지 아세요?",
    "{c}의 수도가 궁금해요.",
    "{c}에 가는데 수도가 어디예요?",
    "{c}의 수도 도시는?",
    "{c}의 수도를 아세요?",
    "{c}의 수도가 어디죠?",
    "{c} 수도 알아?",
    "{c}의 수도는 뭐예요?",
    "{c}의 수도는 어딘가요?",
    "어느 도시가 {c}의 수도인가요?",
)
ASK_JA = (
    "{c}の首都は?",
    "{c}の首都はどこですか?",
    "{c}の首都はどこ?",
    "{c}の首都は何ですか?",
    "{c}の首都を教えて。",
    "{c}の首都を教えてください。",
    "{c}の首都",
    "{c}の首都の名前は?",
    "{c}の首都を知っていますか?",
    "{c}の首都ってどこ?",
    "{c}の首都はどの都市ですか?",
    "{c}に行きます。首都はどこですか?",
    "{c}の首都はなんですか?",
    "{c}の首都って何?",
    "{c}の首都はどこだっけ?",
    "{c}の首都、教えて",
    "{c}の首都名は?",
    "{c}の首都が知りたいです。",
    "どの都市が{c}の首都ですか?",
    "{c}の首都はどこでしょうか?",
    "{c}の首都がわかりません。どこですか?",
)
REVERSE_EN = (
    "{k} is the capital of which country?",
    "Which country has the capital {k}?",
    "Which country's capital is {k}?",
    "{k} is the capital of what country?",
    "What country is {k} the capital of?",
    "Of which country is {k} the capital?",
    "Whose capital is {k}?",
    "In which country is {k}?",
    "What country is {k} in?",
    "Where is {k}?",
    "Which country is {k} in?",
    "{k} is in which country?",
    "Tell me which country {k} belongs to.",
    "The city {k} is the capital of",
)
REVERSE_KO = (
    "{kt} 어느 나라의 수도인가요?",
    "{kt} 어느 나라의 수도야?",
    "{kt} 어느 나라 수도?",
    "수도가 {k}인 나라는?",
    "어느 나라의 수도가 {k}인가요?",
    "{kt} 어느 나라에 있나요?",
    "{kt} 어디에 있어?",
    "{kt} 어느 나라에 있어요?",
)
REVERSE_JA = (
    "{k}はどの国の首都ですか?",
    "{k}はどこの国の首都?",
    "首都が{k}の国はどこですか?",
    "どの国の首都が{k}ですか?",
    "{k}はどの国にありますか?",
    "{k}はどこにありますか?",
    "{k}はどこの国?",
)
AND_EN = (
    "And of {c}?",
    "And {c}?",
    "What about {c}?",
    "And for {c}?",
    "How about {c}?",
    "and of {c}",
    "And the capital of {c}?",
    "{c}?",
    "Now {c}.",
    "And what about {c}?",
    "Same for {c}?",
    "What about the one of {c}?",
)
AND_KO = (
    "그럼 {ct}요?",
    "{ct}?",
    "{ct}요?",
    "그러면 {ct}?",
    "{c}의 수도는요?",
    "그럼 {c}의 경우는?",
)
AND_JA = (
    "じゃあ{c}は?",
    "{c}は?",
    "では{c}は?",
    "では、{c}はどうですか?",
    "{c}はどうですか?",
    "それでは{c}の首都は?",
)
OF_WHICH_EN = (
    "Which country is that in?",
    "Of which country?",
    "Where is that?",
    "Which country was that again?",
)


def _reply(lang: str, country: str, capital: str) -> str:
    if lang == "ko":
        return f"{country}의 수도는 {capital}입니다."
    if lang == "ja":
        return f"{country}の首都は{capital}です。"
    end = "" if capital.endswith(".") else "."
    return f"The capital of {country} is {capital}{end}"


def _pick(rng: random.Random, index: int, lang: str) -> tuple[str, str]:
    """A name of the country and its capital, in the language. The usual name is likeliest."""
    country = COUNTRIES[index]
    names = {"en": country.en, "ko": country.ko, "ja": country.ja}[lang]
    capital = {"en": country.capital_en, "ko": country.capital_ko, "ja": country.capital_ja}[lang]
    return (names[0] if rng.random() < 0.6 else rng.choice(names)), capital


def _word(lang: str, name: str) -> str | None:
    """What "Spell it" refers to after this answer: an English name, without its article."""
    return name.removeprefix("the ") if lang == "en" else None


def _language(rng: random.Random) -> str:
    return rng.choices(("en", "ko", "ja"), (5, 3, 3))[0]


def capital(rng: random.Random) -> Exchange:
    """What is the capital of a country?"""
    lang, index = _language(rng), rng.randrange(len(COUNTRIES))
    name, city = _pick(rng, index, lang)
    brief = lang == "en" and rng.random() < 0.08
    ask = rng.choice(BRIEF_EN if brief else {"en": ASK_EN, "ko": ASK_KO, "ja": ASK_JA}[lang])
    user = ask.format(c=name)
    user = user[0].upper() + user[1:] if rng.random() < 0.5 else user
    reply = city if brief else _reply(lang, name, city)
    return Exchange(
        f"capitals_{lang}",
        f"capital|{index}|{ask}",
        user,
        reply,
        contains(city),
        ("capital", lang, index),
        lang,
        _word(lang, city),
    )


def country_of(rng: random.Random) -> Exchange:
    """Which country has this capital?"""
    lang, index = _language(rng), rng.randrange(len(COUNTRIES))
    country = COUNTRIES[index]
    name = {"en": country.en, "ko": country.ko, "ja": country.ja}[lang][0]
    _, city = _pick(rng, index, lang)
    ask = rng.choice({"en": REVERSE_EN, "ko": REVERSE_KO, "ja": REVERSE_JA}[lang])
    user = ask.format(k=city, kt=josa(city, "은", "는"))
    if lang == "ko":
        reply = f"{josa(city, '은', '는')} {name}의 수도입니다."
    elif lang == "ja":
        reply = f"{city}は{name}の首都です。"
    else:
        reply = f"{city} is the capital of {name}."
    return Exchange(
        f"countries_{lang}",
        f"country|{index}|{ask}",
        user,
        reply,
        contains(name),
        ("country", lang, index),
        lang,
        _word(lang, name),
    )


def follow_capital(rng: random.Random, topic: tuple[object, ...]) -> Exchange:
    """'And of Japan?' after a question for a capital; or a question back about the country."""
    lang = str(topic[1])
    if lang == "en" and rng.random() < 0.12:
        index = int(str(topic[2]))
        name, city = COUNTRIES[index].en[0], COUNTRIES[index].capital_en
        ask = rng.choice(OF_WHICH_EN)
        return Exchange(
            "follow_up",
            f"of_which|{index}|{ask}",
            ask,
            f"{city} is the capital of {name}.",
            contains(name),
            topic,
            word=_word(lang, name),
        )
    index = rng.randrange(len(COUNTRIES))
    name, city = _pick(rng, index, lang)
    ask = rng.choice({"en": AND_EN, "ko": AND_KO, "ja": AND_JA}[lang])
    user = ask.format(c=name, ct=josa(name, "은", "는"))
    return Exchange(
        "follow_up",
        f"and_capital|{index}|{ask}",
        user,
        _reply(lang, name, city),
        contains(city),
        ("capital", lang, index),
        lang,
        _word(lang, city),
    )


def follow_country(rng: random.Random, topic: tuple[object, ...]) -> Exchange:
    """'And Tokyo?' after a question for a country."""
    lang, index = str(topic[1]), rng.randrange(len(COUNTRIES))
    country = COUNTRIES[index]
    name = {"en": country.en, "ko": country.ko, "ja": country.ja}[lang][0]
    _, city = _pick(rng, index, lang)
    ask = rng.choice(
        {
            "en": ("And {k}?", "What about {k}?", "And of {k}?", "How about {k}?"),
            "ko": ("{kt}요?", "그럼 {kt}?"),
            "ja": ("{k}は?", "じゃあ{k}は?"),
        }[lang]
    )
    user = ask.format(k=city, kt=josa(city, "은", "는"))
    reply = {
        "en": f"{city} is the capital of {name}.",
        "ko": f"{josa(city, '은', '는')} {name}의 수도입니다.",
        "ja": f"{city}は{name}の首都です。",
    }[lang]
    return Exchange(
        "follow_up",
        f"and_country|{index}|{ask}",
        user,
        reply,
        contains(name),
        ("country", lang, index),
        lang,
        _word(lang, name),
    )
