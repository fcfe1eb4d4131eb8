"""Common words between English, Korean and Japanese.

Asked in three languages. A word that is spelled like another in the source language (Korean 배 is
both a pear and a ship) is judged against every reading.
"""

import random

from tools.boxed_model.dialog import Check, Exchange, josa
from tools.boxed_model.facts.words import WORDS

LANGS = ("en", "ko", "ja")
LANG_NAME = {
    "en": ("English", "Korean", "Japanese"),
    "ko": ("영어", "한국어", "일본어"),
    "ja": ("英語", "韓国語", "日本語"),
}
ASK_EN = (
    "What is {q} in {l}?",
    "How do you say {q} in {l}?",
    "Translate {q} to {l}.",
    "Translate {q} into {l}.",
    "{q} in {l}?",
    "What's {q} in {l}?",
    "{l} for {q}?",
    "What is the {l} word for {q}?",
    "How do I say {q} in {l}?",
    "Say {q} in {l}.",
    "Translate to {l}: {q}",
    "{q} in {l}",
    "Please translate {q} into {l}.",
    "Tell me the {l} word for {q}.",
    "What does {q} mean in {l}?",
)
ASK_KO = (
    "{q} {l}로 뭐야?",
    "{qt} {l}로 뭐예요?",
    "{qr} {l}로 번역해 줘.",
    "{q} {l}로?",
    "{qr} {l}로 말해 줘.",
    "{qt} {l}로 무엇인가요?",
    "{qr} {l}로 번역해 주세요.",
    "{q}의 {l}는?",
    "{qr} {l}로 어떻게 말해?",
)
ASK_JA = (
    "{q}は{l}で何ですか?",
    "{q}は{l}で何と言いますか?",
    "{q}を{l}に訳して。",
    "{q}を{l}で言って。",
    "{q}を{l}に翻訳してください。",
    "{q}は{l}で?",
    "{q}は{l}で何?",
    "{l}で{q}は?",
)
QUOTES = ("{w}", "{w}", "'{w}'", '"{w}"', "the word {w}")
ALSO_EN = (
    "And in {l}?",
    "In {l}?",
    "What about {l}?",
    "and {l}?",
    "Now in {l}.",
    "How about in {l}?",
)
ALSO_WORD = ("And {w}?", "What about {w}?", "And '{w}'?", "How about {w}?", 'And "{w}"?')


def meanings(word: str, src: int, dst: int) -> list[str]:
    """Every reading of a word in another language."""
    return [row[dst] for row in WORDS if row[src] == word]


def _reply(lang: str, word: str, to: int, answer: str) -> str:
    name = LANG_NAME[lang][to]
    if lang == "ko":
        return f'"{word}"의 {name}는 "{answer}"입니다.'
    if lang == "ja":
        return f"「{word}」は{name}で「{answer}」です。"
    return f'"{word}" in {name} is "{answer}".'


def _quoted(lang: str, answers: list[str]) -> Check:
    """Any reading, in quotation marks."""
    marks = "「{}」" if lang == "ja" else '"{}"'
    return Check("quoted", [marks.format(a) for a in answers])


def _single(lang: str, answer: str) -> str | None:
    """The answer if it is one word of a talk in English: "Spell it" refers to it."""
    return answer if lang == "en" and " " not in answer else None


def translate(rng: random.Random) -> Exchange:
    """One word from one of the three languages to another."""
    row = rng.randrange(len(WORDS))
    src, dst = rng.sample(range(3), 2)
    lang = rng.choices(("en", "ko", "ja"), (5, 2, 2))[0]
    word = WORDS[row][src]
    quote = rng.choice(QUOTES if lang == "en" else QUOTES[:4])
    shown = quote.format(w=word)
    ask = rng.choice({"en": ASK_EN, "ko": ASK_KO, "ja": ASK_JA}[lang])
    user = ask.format(
        q=shown, l=LANG_NAME[lang][dst], qt=josa(shown, "은", "는"), qr=josa(shown, "을", "를")
    )
    return Exchange(
        "translation",
        f"translate|{word}|{src}|{dst}|{ask}",
        user,
        _reply(lang, word, dst, WORDS[row][dst]),
        _quoted(lang, meanings(word, src, dst)),
        ("word", lang, row, src, dst),
        lang,
        _single(lang, WORDS[row][dst]),
    )


def follow_word(rng: random.Random, topic: tuple[object, ...]) -> Exchange:
    """'And in Japanese?' or 'And cat?' after a translation."""
    lang, row, src, dst = str(topic[1]), int(str(topic[2])), int(str(topic[3])), int(str(topic[4]))
    if rng.random() < 0.5:
        dst = 3 - src - dst
        ask = rng.choice(
            {
                "en": ALSO_EN,
                "ko": ("{l}로는?", "그럼 {l}로는?", "{l}로는요?"),
                "ja": ("{l}では?", "じゃあ{l}では?", "{l}では何ですか?"),
            }[lang]
        )
        user = ask.format(l=LANG_NAME[lang][dst])
    else:
        row = rng.randrange(len(WORDS))
        ask = rng.choice(
            {"en": ALSO_WORD, "ko": ("그럼 {w}?", "{w}는?"), "ja": ("じゃあ{w}は?", "{w}は?")}[lang]
        )
        user = ask.format(w=WORDS[row][src])
        if lang == "ko" and ask == "{w}는?":
            user = josa(WORDS[row][src], "은", "는") + "?"
    word = WORDS[row][src]
    return Exchange(
        "follow_up",
        f"also|{word}|{src}|{dst}|{ask}",
        user,
        _reply(lang, word, dst, WORDS[row][dst]),
        _quoted(lang, meanings(word, src, dst)),
        ("word", lang, row, src, dst),
        lang,
        _single(lang, WORDS[row][dst]),
    )
