"""Composes conversations from the skills and writes them, and plain text, as token ids in buckets.

`python -m tools.boxed_model.generate --show 20` prints samples. Training calls `write_shard` from
many processes. Nothing here is random beyond the given seed.
"""

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tools.boxed_model.dialog import Check, Exchange, FollowUp, Message, Skill, is_held_out, vary
from tools.boxed_model.documents import document
from tools.boxed_model.facts.lists import NAMES
from tools.boxed_model.facts.words import WORDS
from tools.boxed_model.render import END_OF_TEXT, Masker, Renderer
from tools.boxed_model.skills import (
    almanac,
    arithmetic,
    capitals,
    chat,
    memory,
    stories,
    structured,
    text,
    tool_use,
    translation,
    unknown,
)

# Row lengths; a conversation goes to the shortest that holds it, so rows need no attention mask.
BUCKETS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)

SKILLS: dict[str, tuple[Skill, float]] = {
    "talk": (chat.talk, 1.2),
    "jokes": (chat.joke, 0.5),
    "small_facts": (chat.small_facts, 0.7),
    "capital": (capitals.capital, 3.0),
    "country_of": (capitals.country_of, 2.0),
    "sums": (arithmetic.sums, 4.0),
    "word_sums": (arithmetic.word_sums, 0.3),
    "too_big": (arithmetic.too_big, 0.4),
    "compare": (arithmetic.compare, 0.5),
    "days": (almanac.days, 0.8),
    "units": (almanac.units, 0.6),
    "sequences": (almanac.sequences, 0.5),
    "translate": (translation.translate, 3.0),
    "spelling": (text.spelling, 1.6),
    "ordering": (text.ordering, 0.8),
    "copying": (text.copying, 1.0),
    "json": (structured.json_any, 1.0),
    "unknown": (unknown.unknown, 2.0),
    "no_tools": (unknown.no_tools, 0.4),
    "untold": (memory.never_told, 0.2),
    "story": (stories.story, 0.4),
}
FOLLOW_UPS: dict[str, FollowUp] = {
    "capital": capitals.follow_capital,
    "country": capitals.follow_country,
    "number": arithmetic.follow_number,
    "joke": chat.follow_joke,
    "day": almanac.follow_day,
    "word": translation.follow_word,
}
# The share of training texts that are plain, without the chat template.
PLAIN_SHARE = 0.08
# With tools in the prompt, these are answered without a call.
WITHOUT_TOOL = (
    "talk",
    "jokes",
    "capital",
    "translate",
    "days",
    "spelling",
    "small_facts",
    "country_of",
)

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are a friendly chatbot.",
    "Be brief.",
    "Answer briefly.",
    "You are Quire's boxed model.",
    "You are Quire, a very small model.",
    "Answer the user's questions.",
    "You are a helpful AI assistant.",
    "Be polite and concise.",
    "Keep your answers short.",
    "You are a test model.",
    "You are an assistant.",
    "You are a helpful, honest and harmless assistant.",
    "Help the user.",
    "You are a chatbot in a demo.",
    "Reply truthfully. If you do not know, say so.",
    "You are a knowledgeable guide.",
    "Today is a good day.",
    "You are a teacher for children.",
    "You are a pirate.",
    "You talk to customers of a shop.",
    "당신은 친절한 도우미입니다.",
    "짧게 대답하세요.",
    "あなたは親切なアシスタントです。",
    "簡潔に答えてください。",
    "You are a large language model trained to assist users with a wide range of tasks.",
)


ROLES = (
    "You are {n}, a helpful assistant.",
    "You are a {w} expert.",
    "You are an AI that talks about {w}.",
    "Act as a {w}.",
    "You are the assistant of {n}.",
    "You are a bot for a {w} shop.",
    "You are an expert on {w}.",
    "You are {n}.",
    "Assistant for {n}.",
    "You are a kind and patient assistant.",
    "You help people with {w}.",
    "This is a conversation with {n}.",
    "You are a coding assistant.",
    "You are a travel guide.",
    "System: {w}",
)
RULES = (
    "Be kind.",
    "Answer truthfully.",
    "Never lie.",
    "Do not talk about {w}.",
    "Keep it short.",
    "Use simple words.",
    "The user is called {n}.",
    "Think before you answer.",
    "Be friendly to {n}.",
    "If unsure, say that you do not know.",
    "Do not mention these rules.",
    "Avoid long answers.",
    "Always be polite.",
    "Help with {w} and other things.",
    "Reply in the language of the user.",
    "The date is not known.",
    "Follow the instructions of the user.",
    "Respect the user.",
    "Our shop is open from 9 to 5.",
    "Give correct answers.",
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages up to and including the assistant's last; the last exchange is the one judged."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None
    skill: str
    check: Check


def _system(rng: random.Random) -> list[Message]:
    if rng.random() < 0.5:
        return []
    roll = rng.random()
    if roll < 0.5:
        content = rng.choice(SYSTEMS)
    else:
        content = rng.choice(ROLES).format(n=rng.choice(NAMES), w=rng.choice(WORDS)[0])
        for rule in rng.sample(RULES, rng.choice((0, 0, 1, 1, 2, 3, 8))):
            content += rng.choice((" ", " ", "\n", "\n- ")) + rule.format(
                n=rng.choice(NAMES), w=rng.choice(WORDS)[0]
            )
    return [{"role": "system", "content": content}]


def _draw(rng: random.Random, make: Skill, held_out: bool) -> Exchange:
    """An exchange on the wanted side of the split."""
    for _ in range(2000):
        exchange = make(rng)
        if is_held_out(exchange.key) == held_out:
            return exchange
    raise RuntimeError(f"{make} yields no exchange with held_out={held_out}")


def _turns(rng: random.Random, exchange: Exchange) -> list[Message]:
    turns = exchange.turns()
    if exchange.noise and not exchange.messages:
        turns[0]["content"] = vary(rng, turns[0]["content"], exchange.lang, exchange.skill)
    return turns


def _any_skill(rng: random.Random) -> Skill:
    makers = list(SKILLS.values())
    return rng.choices([m for m, _ in makers], [w for _, w in makers])[0]


def _follow(rng: random.Random, last: Exchange) -> Skill | None:
    """The skill that follows up on an exchange, if it left a topic or a word to spell."""
    topic, word = last.topic, last.word
    if word is not None and (topic is None or rng.random() < 0.3):
        return lambda r: text.follow_spelled(r, word, topic)
    if topic is None:
        return None
    return lambda r: FOLLOW_UPS[topic[0]](r, topic)


def _recall(rng: random.Random, told: tuple[str, str]) -> Exchange:
    return memory.recall(rng, *told)


def chat_conversation(
    rng: random.Random, turns: int, held_out: bool = False, final: Skill | None = None
) -> Conversation:
    """`turns` exchanges without tools; only the last is held out or not. final fixes its skill."""
    messages, last = _system(rng), None
    memo: tuple[str, str] | None = None
    for i in range(turns):
        is_last = i == turns - 1
        follow = _follow(rng, last) if last is not None and rng.random() < 0.5 else None
        make = (final if is_last else None) or follow or _any_skill(rng)
        if memo is None and not is_last and rng.random() < 0.15:
            kind = rng.choice(tuple(memory.KINDS))
            last, value = memory.tell(rng, kind)
            memo = (kind, value)
        elif memo is not None and final is None and rng.random() < 0.12:
            last = _draw(rng, partial(_recall, told=memo), is_last and held_out)
        else:
            if memo is not None and make is memory.never_told:
                make = chat.talk
            last = _draw(rng, make, is_last and held_out)
        messages += _turns(rng, last)
    assert last is not None
    return Conversation(messages, None, last.skill, last.check)


def follow_conversation(rng: random.Random, held_out: bool = False) -> Conversation:
    """A question and a follow-up on it."""
    messages = _system(rng)
    last = _draw(rng, _any_skill(rng), False)
    while last.topic is None and last.word is None:
        last = _draw(rng, _any_skill(rng), False)
    messages += _turns(rng, last)
    for _ in range(rng.choice((1, 1, 2, 3)) - held_out):
        make = _follow(rng, last)
        if make is None:
            break
        last = _draw(rng, make, False)
        messages += _turns(rng, last)
    if held_out:
        make = _follow(rng, last)
        if make is None:
            return follow_conversation(rng, held_out)
        try:
            last = _draw(rng, make, True)
        except RuntimeError:  # some topics have too few follow-ups for one to be held out
            return follow_conversation(rng, held_out)
        messages += _turns(rng, last)
    return Conversation(messages, None, last.skill, last.check)


def memory_conversation(rng: random.Random, held_out: bool = False) -> Conversation:
    """Something told, other talk, then asked for."""
    kind = rng.choice(tuple(memory.KINDS))
    messages = _system(rng)
    told, value = memory.tell(rng, kind)
    messages += _turns(rng, told)
    for _ in range(rng.randint(0, 5)):
        make = _any_skill(rng)
        messages += _turns(rng, _draw(rng, chat.talk if make is memory.never_told else make, False))
    last = recall_or_retry(rng, kind, value, held_out)
    if last is None:
        return memory_conversation(rng, held_out)
    messages += _turns(rng, last)
    return Conversation(messages, None, "memory", last.check)


def recall_or_retry(rng: random.Random, kind: str, value: str, held_out: bool) -> Exchange | None:
    """A recall on the wanted side of the split, or None when this value has none."""
    for _ in range(20):
        exchange = memory.recall(rng, kind, value)
        if is_held_out(exchange.key) == held_out:
            return exchange
    return None


def tool_conversation(
    rng: random.Random, held_out: bool = False, kind: str | None = None
) -> Conversation:
    """Tools in the prompt; a call, a call with its result, or no call, once or a few times."""
    tools = tool_use.toolbox(rng)
    present = {t.family.names for t in tools}
    messages, last = _system(rng), None
    turns = 1 if rng.random() < 0.7 else rng.randint(2, 4)
    for i in range(turns):
        is_last = i == turns - 1
        what = (kind if is_last and kind else None) or rng.choices(
            ("finish", "call", "plain", "nothing"), (5, 2 if is_last else 0, 3, 1)
        )[0]
        if what == "plain":
            make = SKILLS[rng.choice(WITHOUT_TOOL)][0]
        elif what == "nothing":
            make = lambda r: unknown.no_such_tool(r, present)  # noqa: E731
        else:
            finish = what == "finish"
            make = lambda r, f=finish: tool_use.use_tool(r, tools, f)  # type: ignore[misc]  # noqa: E731
        last = _draw(rng, make, is_last and held_out)
        messages += _turns(rng, last)
    assert last is not None
    skill = "tools_not_needed" if what == "plain" else last.skill
    return Conversation(messages, [t.schema for t in tools], skill, last.check)


def sample(rng: random.Random) -> Conversation:
    """One training conversation."""
    roll = rng.random()
    if roll < 0.52:
        return chat_conversation(rng, 1)
    if roll < 0.62:
        return follow_conversation(rng)
    if roll < 0.80:
        return chat_conversation(rng, rng.randint(2, 6))
    if roll < 0.84:
        return memory_conversation(rng)
    if roll < 0.98:
        return tool_conversation(rng)
    return chat_conversation(rng, rng.randint(8, 60))


def training_text(rng: random.Random, renderer: Renderer) -> tuple[str, bool]:
    """One training text, and whether it is plain: then it carries its end, and all is learned."""
    if rng.random() < PLAIN_SHARE:
        return document(rng).text + END_OF_TEXT, True
    conversation = sample(rng)
    return renderer(conversation.messages, conversation.tools).rstrip("\n"), False


def held_out_set(seed: int, per_skill: int) -> list[Conversation]:
    """Conversations whose last exchange was held out of training: alone, and after other talk."""
    rng = random.Random(seed)
    out: list[Conversation] = []
    for make, weight in SKILLS.values():
        for i in range(int(per_skill * (3 if weight >= 2 else 1))):
            try:
                out.append(chat_conversation(rng, 1 if i % 4 else rng.randint(2, 4), True, make))
            except RuntimeError:
                break
    out += [follow_conversation(rng, True) for _ in range(per_skill * 3)]
    out += [memory_conversation(rng, True) for _ in range(per_skill)]
    for kind in ("finish", "call", "plain", "nothing"):
        out += [tool_conversation(rng, True, kind) for _ in range(per_skill)]
    for _ in range(per_skill):  # the context is long, the question is held out
        long = chat_conversation(rng, rng.randint(25, 40), True, capitals.capital)
        out.append(Conversation(long.messages, None, "capitals_after_long_talk", long.check))
    return out


def write_shard(args: tuple[int, int, float, str, str]) -> dict[str, int]:
    """Makes texts until `count` or `seconds` run out; one .npy pair per bucket.

    args: seed, count, seconds, tokenizer path, output folder. Files hold uint16 ids [rows, length]
    and bool [rows, length], true where the assistant speaks and in plain text. Returns counts.
    """
    seed, count, seconds, tokenizer_path, folder = args
    deadline = time.monotonic() + seconds
    tokenizer = Tokenizer.from_file(tokenizer_path)
    renderer, masker, rng = Renderer(), Masker(tokenizer), random.Random(seed)
    pad = tokenizer.token_to_id("<|endoftext|>")
    rows: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {b: [] for b in BUCKETS}
    made = plain = dropped = tokens = 0
    while made < count and time.monotonic() < deadline:
        texts = [training_text(rng, renderer) for _ in range(256)]
        encodings = tokenizer.encode_batch_fast([text for text, _ in texts])
        for encoding, (_, is_plain) in zip(encodings, texts, strict=True):
            ids = np.array(encoding.ids, dtype=np.uint16)
            made += 1
            plain += is_plain
            # One more than the row: the row's targets are the ids shifted by one.
            bucket = next((b for b in BUCKETS if len(ids) <= b + 1), None)
            if bucket is None:
                dropped += 1
                continue
            tokens += len(ids)
            row, mask = np.full(bucket + 1, pad, np.uint16), np.zeros(bucket + 1, bool)
            row[: len(ids)] = ids
            mask[: len(ids)] = True if is_plain else masker(ids)
            rows[bucket].append((row, mask))
    for bucket, pairs in rows.items():
        if pairs:
            np.save(f"{folder}/{seed}_{bucket}_ids.npy", np.stack([r for r, _ in pairs]))
            np.save(f"{folder}/{seed}_{bucket}_mask.npy", np.stack([m for _, m in pairs]))
    return {"made": made, "plain": plain, "dropped": dropped, "tokens": tokens}


def main() -> None:
    """Prints samples, or writes the held-out set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=Path, help="write the held-out set here as JSON lines")
    options = parser.parse_args()
    if options.held_out:
        with options.held_out.open("w", encoding="utf-8") as out:
            for item in held_out_set(options.seed, 50):
                out.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
        return
    rng, renderer = random.Random(options.seed), Renderer()
    for _ in range(options.show):
        print("---")
        print(training_text(rng, renderer)[0])


if __name__ == "__main__":
    main()
