"""Writes the model card, README.md, from train.json and eval.json beside the checkpoint.

`python -m tools.boxed_model.card --model DIR`. Every number in the card comes from those files;
the text around them states what was and was not measured. Needs no torch.
"""

import argparse
import json
from pathlib import Path
from typing import Any

CARD = """---
license: apache-2.0
language: [en, ko, ja]
pipeline_tag: text-generation
---
# Quire's boxed model

A {parameters:.2f} M parameter Llama decoder ({megabytes:.1f} MB in bf16) that travels inside the
Quire package, so that the engine can be tried, demonstrated and tested with nothing to download.

**It is a toy.** It knows capitals, small sums, days and units, about 260 words in English, Korean
and Japanese, spelling, a few jokes, JSON on request and simple tool calls, in short chats. Asked
anything else it mostly says that it does not know. Plain text without the chat template it goes on
with for a sentence or a few, about the same things. It has no general knowledge and no reasoning,
writes only stories built from parts, and must not be relied on for anything.

## How it was made

Trained from random weights on text made by this project's own generator
(`tools/boxed_model/`): tables and templates written for it; no data set, no other model's output.
{conversations:,} texts ({plain:,} of them plain, the others conversations), {text_tokens:,}
tokens, made in {text_seconds:.0f} s on 16 CPU cores; {tokens:,} tokens seen (padding included) in
{steps:,} steps and {minutes:.1f} minutes on one {device}. Byte-level BPE of 6144 tokens, digits
single. Context 2048 tokens; the longest prompt measured below has {longest} tokens. ChatML with
Hermes-style tools, see `chat_template.jinja`; it adds no system prompt of its own. Plain text ends
with `<|endoftext|>`, a turn with `<|im_end|>`; both are end-of-sequence tokens.

## What was measured

Greedy, with transformers, in bf16, on {eval_device}. About 4 % of instances were held out of
training by a hash:

- *facts, translation, units, talk and the like*: the pair of fact and wording. Each fact was seen
  in other wordings, each wording with other facts; the combination was not. This measures recall
  of trained facts, not new knowledge.
- *one-digit sums*: the same, the pair of sum and wording.
- *larger sums*: the sum itself, wherever it would occur: these are new sums.
- *sorting, copying, JSON, tools*: the input (for tools: tool name, wording and first value).
- *plain text* (skills named `plain_`): the pair of fact and opening. The greedy continuation must
  begin with the right answer; a share of the prompts has other sentences before the opening. Where
  the combination was held out, the model may go on as another sentence would ("is called ...").

A share of the prompts has earlier turns before the question. The generator's wordings were widened
once after a first model's mistakes on the same split, so this is a development set. Numbers are
percentages; "stopped" means that the model ended its answer by itself within 320 tokens.

| skill | n | right | with system prompt | without | stopped |
| --- | ---: | ---: | ---: | ---: | ---: |
{rows}
{totals}

Right answer anywhere in the continuation of plain text ({plain_device}): {contains}.

More new sums: {sums}

Fixed prompts (`tools/boxed_model/probes.py`; their wordings may occur in training), asked with and
without a system prompt: {passed} of {asked} right. Fixed plain prompts: {plain_passed} of
{plain_asked} right. Wordings and a tool found in no template: {unseen_passed} of {unseen_asked}
right. Missed: {missed}

Plain prompts and their greedy continuations:

{continuations}

## Known faults

- Wordings far from its templates are refused or mistaken for another skill.
- "Spell it" works after an answer of one word or name in English chats only.
- Plain text recalls less well than chat: a fact may be wrong, or the answer come a sentence late,
  where this fact was not shown with this opening. Openings unlike those in the generator go on with
  something arbitrary.
- Products of two digits that were not shown (29 of 720) are wrong about one time in four; divisions
  with remainder are sometimes wrong; larger sums are refused.
- Tools with names or parameters unlike those in the generator may be called wrongly or not at all.
  One call at a time; parallel calls were not trained.
- Where a country's capital is disputed or there are several, it names one.
"""


def cell(row: dict[str, Any], side: str) -> str:
    """Accuracy and count of one side of a row, or a dash."""
    return f"{row[side]} (n={row[f'n_{side}']})" if row[f"n_{side}"] else "–"


def table(skills: dict[str, Any]) -> str:
    """One row per skill."""
    return "\n".join(
        f"| {name} | {r['n']} | {r['accuracy']} | {cell(r, 'with_system')} "
        f"| {cell(r, 'without_system')} | {r['stopped']} |"
        for name, r in skills.items()
    )


def totals(skills: dict[str, Any]) -> str:
    """One row for the chat skills together and one for plain text."""
    lines = []
    for name, plain in (("chat", False), ("plain text", True)):
        rows = [r for skill, r in skills.items() if skill.startswith("plain_") == plain]
        n = max(sum(r["n"] for r in rows), 1)
        right, stopped = (
            sum(round(r[key] * r["n"] / 100) for r in rows) for key in ("accuracy", "stopped")
        )
        lines.append(
            f"| **all {name}** | {n} | {100 * right / n:.2f} | | | {100 * stopped / n:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Reads the two reports, writes the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    train = json.loads((options.model / "train.json").read_text(encoding="utf-8"))
    result = json.loads((options.model / "eval.json").read_text(encoding="utf-8"))
    probes = [p for p in result["probes"] if p["set"] == "probe"]
    unseen = [p for p in result["probes"] if p["set"] == "unseen"]
    plain = [p for p in result["probes"] if p["set"] == "plain"]
    missed = [f"“{p['asked']}”" for p in result["probes"] if not p["passed"]]
    contained = dict(result["plain_contains"])
    continuations = "\n".join(
        f"- {p['asked']}**{p['answer'].replace(chr(10), ' ⏎ ')}**" for p in plain
    )
    size = (options.model / "model.safetensors").stat().st_size
    text = CARD.format(
        parameters=train["parameters"] / 1e6,
        megabytes=size / 1e6,
        conversations=train["conversations"],
        text_tokens=train["text_tokens"],
        text_seconds=train["text_seconds"],
        tokens=train["tokens"],
        steps=train["steps"],
        minutes=train["seconds"] / 60,
        device=train["device"],
        eval_device=result["device"],
        longest=result["longest_prompt"],
        rows=table(result["skills"]),
        totals=totals(result["skills"]),
        plain_device=contained.pop("device"),
        contains=", ".join(
            f"{k.removeprefix('plain_')} {v[1]} of {v[3]}" for k, v in contained.items()
        ),
        plain=train["plain"],
        sums=", ".join(f"{k} {v[0]} of {v[1]}" for k, v in result["new_sums"].items()) + " right.",
        plain_passed=sum(p["passed"] for p in plain),
        plain_asked=len(plain),
        continuations=continuations,
        passed=sum(p["passed"] for p in probes),
        asked=len(probes),
        unseen_passed=sum(p["passed"] for p in unseen),
        unseen_asked=len(unseen),
        missed="; ".join(missed) or "none",
    )
    (options.model / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
