"""Measures a checkpoint with transformers, greedy: accuracy per skill on held-out instances.

`python -m tools.boxed_model.evaluate --model DIR`. Writes DIR/eval.json; card.py turns it into the
model card. An answer counts as stopped when the model ended it before the limit.
"""

import argparse
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tools.boxed_model.dialog import Check, is_held_out, passes
from tools.boxed_model.documents import Document, held_out_documents
from tools.boxed_model.generate import Conversation, held_out_set
from tools.boxed_model.probes import probes
from tools.boxed_model.skills import arithmetic
from transformers import AutoModelForCausalLM, AutoTokenizer

MAX_NEW_TOKENS = 320


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one conversation."""

    text: str
    stopped: bool
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt as text, what it is about, and how its answer is judged."""

    prompt: str
    asked: str
    skill: str
    check: Check
    length: int  # characters of the expected answer
    system: bool = False
    line: bool = False  # only the first line of the answer is judged

    def passed(self, answer: str) -> bool:
        """Whether the answer is right."""
        return passes(self.check, answer.strip().split("\n")[0] if self.line else answer)


def question(tokenizer: Any, item: Conversation | Document) -> Question:
    """The prompt of a conversation (up to its last message) or of a plain document."""
    if isinstance(item, Document):
        return Question(
            item.prompt, item.prompt, item.skill, item.check, len(item.rest), line=item.line
        )
    prompt = tokenizer.apply_chat_template(
        item.messages[:-1], tools=item.tools, tokenize=False, add_generation_prompt=True
    )
    return Question(
        prompt,
        str(item.messages[-2]["content"]),
        item.skill,
        item.check,
        len(item.messages[-1]["content"]),
        system=item.messages[0]["role"] == "system",
    )


def answer_all(model: Any, tokenizer: Any, questions: list[Question], batch: int) -> list[Answer]:
    """Greedy answers."""
    # Answers of like length together, so that a batch ends early.
    order = sorted(
        range(len(questions)), key=lambda i: (questions[i].length // 40, len(questions[i].prompt))
    )
    answers: dict[int, Answer] = {}
    for at in range(0, len(order), batch):
        picked = order[at : at + batch]
        encoded = tokenizer(
            [questions[i].prompt for i in picked],
            return_tensors="pt",
            padding=True,
            padding_side="left",
        ).to(model.device)
        width = encoded["input_ids"].shape[1]
        with torch.inference_mode():
            out = model.generate(
                **encoded,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=MAX_NEW_TOKENS,
            )
        for i, row, seen in zip(
            picked, out[:, width:].tolist(), encoded["attention_mask"].sum(1).tolist(), strict=True
        ):
            ends = [row.index(e) for e in model.generation_config.eos_token_id if e in row]
            stop = min(ends, default=None)
            answers[i] = Answer(
                tokenizer.decode(row[:stop], skip_special_tokens=True), stop is not None, seen
            )
    return [answers[i] for i in range(len(questions))]


def ask_probes(model: Any, tokenizer: Any, batch: int) -> list[dict[str, Any]]:
    """The fixed prompts and what the model said."""
    fixed = [question(tokenizer, p) for p in probes()]
    return [
        {
            "set": q.skill,
            "asked": q.asked,
            "system": q.system,
            "answer": a.text,
            "stopped": a.stopped,
            "passed": q.passed(a.text) and (a.stopped or q.skill != "plain"),
        }
        for q, a in zip(fixed, answer_all(model, tokenizer, fixed, batch), strict=True)
    ]


def new_sums(model: Any, tokenizer: Any, batch: int) -> dict[str, list[int]]:
    """Right and asked for more held-out sums of two and three digits than the table has."""
    rng = random.Random(77)
    items: dict[str, Conversation] = {}
    while len(items) < 600:
        exchange = arithmetic.sums(rng)
        if exchange.key.startswith("sum2|") and is_held_out(exchange.key):
            items[exchange.user] = Conversation(
                exchange.turns(), None, exchange.skill, exchange.check
            )
    questions = [question(tokenizer, c) for c in items.values()]
    counts: dict[str, list[int]] = {}
    for q, answer in zip(questions, answer_all(model, tokenizer, questions, batch), strict=True):
        row = counts.setdefault(q.skill.removeprefix("arithmetic_"), [0, 0])
        row[0] += q.passed(answer.text)
        row[1] += 1
    return dict(sorted(counts.items()))


def plain_contains(questions: list[Question], answers: list[Answer]) -> dict[str, list[int]]:
    """Per plain skill: right, right answer anywhere in the continuation, stopped, asked.

    An opening may go on as another template would ("is called Nicosia", a question and its answer):
    the answer is there, but not where the check wants it.
    """
    rows: dict[str, list[int]] = {}
    for item, answer in zip(questions, answers, strict=True):
        if not item.skill.startswith("plain_"):
            continue
        right = item.passed(answer.text)
        there = item.check.kind == "starts" and any(w in answer.text for w in item.check.want)
        row = rows.setdefault(item.skill, [0, 0, 0, 0])
        for i, value in enumerate((right, right or there, answer.stopped, True)):
            row[i] += value
    return rows


def share(rows: list[bool]) -> float:
    """Percentage of true."""
    return round(100 * sum(rows) / max(len(rows), 1), 2)


def measure(questions: list[Question], answers: list[Answer]) -> dict[str, Any]:
    """The table per skill, the totals, and some of the wrong answers."""
    skills: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    wrong: dict[str, list[list[str]]] = defaultdict(list)
    for item, answer in zip(questions, answers, strict=True):
        ok = item.passed(answer.text)
        row = skills[item.skill]
        row["right"].append(ok)
        row["stopped"].append(answer.stopped)
        row["system" if item.system else "no_system"].append(ok)
        if not ok and len(wrong[item.skill]) < 12:
            said, want = answer.text[:200], str(item.check.want)[:200]
            wrong[item.skill].append([item.asked[-200:], said, want])
    table = {
        name: {
            "n": len(row["right"]),
            "accuracy": share(row["right"]),
            "stopped": share(row["stopped"]),
            "with_system": share(row["system"]),
            "n_with_system": len(row["system"]),
            "without_system": share(row["no_system"]),
            "n_without_system": len(row["no_system"]),
        }
        for name, row in sorted(skills.items())
    }
    right = [x for row in skills.values() for x in row["right"]]
    stopped = [x for row in skills.values() for x in row["stopped"]]
    return {
        "skills": table,
        "overall": {"n": len(right), "accuracy": share(right), "stopped": share(stopped)},
        "wrong": wrong,
        "longest_prompt": max(a.prompt_tokens for a in answers),
    }


def main() -> None:
    """Runs the probes, the new sums and the held-out set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--per-skill", type=int, default=150)
    parser.add_argument(
        "--only-fixed", action="store_true", help="ask only the probes and new sums; write nothing"
    )
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    began = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16)
    model = model.to(options.device).eval()
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    result: dict[str, Any] = {"device": name}
    result["probes"] = ask_probes(model, tokenizer, options.batch)
    result["new_sums"] = new_sums(model, tokenizer, options.batch)
    if not options.only_fixed:
        items: list[Conversation | Document] = [
            *held_out_set(options.seed, options.per_skill),
            *held_out_documents(options.seed, options.per_skill // 2),
        ]
        # Each prompt once.
        questions = list({q.prompt: q for q in (question(tokenizer, i) for i in items)}.values())
        answers = answer_all(model, tokenizer, questions, options.batch)
        result |= measure(questions, answers)
        result["plain_contains"] = {"device": name, **plain_contains(questions, answers)}
        (options.model / "eval.json").write_text(
            json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
    for skill, row in result.get("skills", {}).items():
        print(f"{skill:27s} {row}")
    print(result.get("overall"), result["new_sums"], f"{time.monotonic() - began:.0f} s")
    for probe in result["probes"]:
        if not probe["passed"] or probe["set"] == "plain":
            word = "said" if probe["passed"] else "missed"
            print(f"{word}: {probe['asked']!r} -> {probe['answer'][:150]!r}")


if __name__ == "__main__":
    main()
