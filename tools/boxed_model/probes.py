"""Fixed prompts anybody would try first; each is asked with and without a system prompt.

Their wordings may occur in training: they test that the box works, not generalisation.
"""

from typing import Any

from tools.boxed_model.dialog import Check, Message, contains, exact, starts
from tools.boxed_model.documents import Document
from tools.boxed_model.facts.lists import NAMES
from tools.boxed_model.facts.sentences import WHO_END
from tools.boxed_model.generate import Conversation
from tools.boxed_model.skills.prose import FUTURE_REST
from tools.boxed_model.skills.unknown import REPLY

SINGLE: tuple[tuple[str, Check], ...] = (
    ("What is the capital of South Korea?", contains("Seoul")),
    ("대한민국의 수도는?", contains("서울")),
    ("日本の首都は?", contains("東京")),
    ("What is the capital of France?", contains("Paris")),
    ("hello", Check("quoted", ["help", "can I do"])),
    ("Hello!", Check("quoted", ["Hello", "Hi"])),
    ("Who are you?", contains("Quire")),
    ("안녕하세요", contains("안녕")),
    ("こんにちは", contains("こんにちは")),
    ("2+2", contains("4")),
    ("What is 7 times 8?", contains("56")),
    ("12 - 5 = ?", contains("7")),
    ("What is 34 + 57?", contains("91")),
    ("Spell Seoul.", contains("S-E-O-U-L")),
    ("Sort 5, 2, 9, 1", contains("1, 2, 5, 9")),
    ("What day comes after Friday?", contains("Saturday")),
    ("How do you say water in Korean?", contains("물")),
    ("What is 'cat' in Japanese?", contains("猫")),
    ("Tell me a joke.", Check("long", [" ", 20])),
    ("Tell me a story about a fox.", Check("long", ["fox", 150])),
    ("Give me JSON with name and age for Alice, 30.", Check("json", {"name": "Alice", "age": 30})),
    ("Count from 1 to 10.", contains("1, 2, 3, 4, 5, 6, 7, 8, 9, 10")),
    ("Who won the World Cup in 1998?", contains(REPLY["en"])),
    ("Explain quantum physics.", contains(REPLY["en"])),
    ("Thank you!", contains("welcome")),
    ("Bye", contains("Goodbye")),
)
# Plain text, without the chat template; the first four are vLLM's quickstart.
PLAIN: tuple[tuple[str, Check], ...] = (
    ("Hello, my name is", starts("Quire.", *NAMES)),
    ("The president of the United States is", starts(WHO_END)),
    ("The capital of France is", starts("Paris.")),
    ("The future of AI is", starts(*(rest.strip().rstrip(".") for rest in FUTURE_REST))),
    ("2 + 3 =", starts("5")),
    ("The day after Monday is", starts("Tuesday.")),
    ("Once upon a time", Check("long", ["there was", 80])),
    ("대한민국의 수도는", starts("서울입니다.")),
    ("日本の首都は", starts("東京です。")),
    ("What is the capital of Japan?", contains("Tokyo")),
)
# Wordings and tasks that no template contains.
UNSEEN: tuple[tuple[str, Check], ...] = (
    ("I'm travelling to Peru, what's its capital?", contains("Lima")),
    ("Kenya is run from which capital?", contains("Nairobi")),
    ("Would you please tell me what 6 and 3 make together?", contains("9")),
    ("Hm, and who might you be?", contains("Quire")),
    ("Why do cats purr?", contains(REPLY["en"])),
    ("can u tell me captial of norway", contains("Oslo")),
    ("Gimme the capital for Chile plz", contains("Santiago")),
    ("What is 123 + 456?", contains("579")),
    ("Ever heard of Quire?", contains("Quire")),
    ("Heyyy", Check("quoted", ["help", "can I do"])),
    ("Can you write a sonnet in Latin?", contains(REPLY["en"])),
    ("How do Koreans say 'book'?", contains("책")),
    ("Hello dear computer!", Check("quoted", ["help", "can I do"])),
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
UNSEEN_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather_forecast_today",
        "description": "Forecast",
        "parameters": {
            "type": "object",
            "properties": {"village": {"type": "string"}},
            "required": ["village"],
        },
    },
}


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _call(name: str, arguments: dict[str, Any]) -> Message:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}],
    }


def _pair(user: str, reply: str) -> list[Message]:
    return [_user(user), {"role": "assistant", "content": reply}]


def probes() -> list[Conversation | Document]:
    """All probes; the last message of a conversation is a placeholder for the answer."""
    end: Message = {"role": "assistant", "content": ""}
    chats: list[tuple[list[Message], list[dict[str, Any]] | None, Check]] = [
        ([_user(text)], None, check) for text, check in SINGLE
    ]
    chats.append(
        (
            [
                _user("What is the capital of France?"),
                {"role": "assistant", "content": "The capital of France is Paris."},
                _user("And of Japan?"),
            ],
            None,
            contains("Tokyo"),
        )
    )
    chats.append(
        (
            [
                _user("What is 4 + 5?"),
                {"role": "assistant", "content": "4 plus 5 is 9."},
                _user("And plus 3?"),
            ],
            None,
            contains("12"),
        )
    )
    chats.append(
        (
            [
                _user("My name is Mina."),
                {"role": "assistant", "content": "Nice to meet you, Mina!"},
                _user("What is the capital of Italy?"),
                {"role": "assistant", "content": "The capital of Italy is Rome."},
                _user("What is my name?"),
            ],
            None,
            contains("Mina"),
        )
    )
    france = _pair("What is the capital of France?", "The capital of France is Paris.")
    cat = _pair("What is 고양이 in English?", '"고양이" in English is "cat".')
    hot = _pair("What is the opposite of hot?", "The opposite of hot is cold.")
    chats.append(([*france, _user("Spell it.")], None, exact("P-A-R-I-S")))
    chats.append(([*cat, _user("Spell that.")], None, exact("C-A-T")))
    chats.append(
        ([*hot, _user("How many letters does it have?")], None, exact("C-O-L-D: 4 letters."))
    )
    weather = _user("What's the weather in Seoul?")
    call = {"name": "get_weather", "arguments": {"city": "Seoul"}}
    chats.append(([weather], [WEATHER], Check("call", call)))
    chats.append(
        (
            [
                weather,
                _call("get_weather", {"city": "Seoul"}),
                {"role": "tool", "content": '{"temperature": 21, "condition": "sunny"}'},
            ],
            [WEATHER],
            contains("21", "sunny", "Seoul"),
        )
    )
    chats.append(([_user("What is the capital of Spain?")], [WEATHER], contains("Madrid")))
    out: list[Conversation | Document] = [
        Document(prompt, "", "plain", check) for prompt, check in PLAIN
    ]
    for system in (None, "You are a helpful assistant."):
        head: list[Message] = [{"role": "system", "content": system}] if system else []
        out += [
            Conversation([*head, *messages, end], tools, "probe", check)
            for messages, tools, check in chats
        ]
    out += [Conversation([_user(text), end], None, "unseen", check) for text, check in UNSEEN]
    out.append(
        Conversation(
            [_user("What's the weather in Oslo?"), end],
            [UNSEEN_TOOL],
            "unseen",
            Check("call", {"name": "weather_forecast_today", "arguments": {"village": "Oslo"}}),
        )
    )
    return out
