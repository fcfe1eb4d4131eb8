"""Trains the byte-level BPE tokenizer on generated conversations and writes the tokenizer files.

`python -m tools.boxed_model.make_tokenizer --out DIR`. One process; about a minute. Does not touch
the model. The result loads with `transformers.AutoTokenizer` and round-trips any UTF-8 text.
"""

import argparse
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tools.boxed_model.generate import sample, training_text
from tools.boxed_model.render import END_OF_TEXT, IM_END, IM_START, TEMPLATE_PATH, Renderer

VOCAB_SIZE = 6144
CONTEXT = 2048
SPECIAL = (END_OF_TEXT, IM_START, IM_END)
# Single tokens, but part of the text: an engine's tool-call parser must see them after decoding.
MARKERS = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
)
# Words with their leading space, single digits, runs of other signs, line ends. Digits stay single
# so that sums align. Korean and Japanese runs count as words.
PATTERN = r" ?\p{L}[\p{L}\p{M}']*|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MIXED = (
    "Hello, world! 0123 3.14",
    "대한민국의 수도는 서울입니다.",
    "日本の首都は東京です。",
    "emoji 🙂🇰🇷 x",
    "tabs\tand\r\nlines  two  spaces ",
    "Ünïcödé ŝ ń ж ض ไทย \u200b\ufeff",
    "don't n't  's",
)


def train(conversations: int, seed: int) -> Tokenizer:
    """A tokenizer trained on that many generated conversations."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(MARKERS),
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
    )
    rng, renderer = random.Random(seed), Renderer()

    def texts() -> list[str]:
        out = []
        for _ in range(conversations):
            text, _ = training_text(rng, renderer)
            for token in (*SPECIAL, *MARKERS):
                text = text.replace(token, "\n")
            out.append(text)
        return out

    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_tokens([AddedToken(m, special=False, normalized=False) for m in MARKERS])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json, chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "bos_token": None,
        "unk_token": None,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(
        TEMPLATE_PATH.read_text(encoding="utf-8"), encoding="utf-8"
    )


def verify(folder: Path) -> None:
    """Round trips, and our rendering against transformers'."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in MIXED:
        back = tokenizer.decode(tokenizer(text)["input_ids"])
        if back != text:
            raise SystemExit(f"no round trip: {text!r} -> {back!r}")
    rng, renderer = random.Random(99), Renderer()
    for i in range(500):
        conversation = sample(rng)
        prompt = bool(i % 2)
        want = tokenizer.apply_chat_template(
            conversation.messages,
            tools=conversation.tools,
            tokenize=False,
            add_generation_prompt=prompt,
        )
        if want != renderer(conversation.messages, conversation.tools, prompt):
            raise SystemExit(f"templates disagree:\n{want}")
        if tokenizer.decode(tokenizer(want)["input_ids"]) != want:
            raise SystemExit(f"no round trip: {want!r}")
    half = [{"role": "user", "content": "Count to 3."}, {"role": "assistant", "content": "1, 2"}]
    text = tokenizer.apply_chat_template(half, tokenize=False, continue_final_message=True)
    if not text.endswith("<|im_start|>assistant\n1, 2"):
        raise SystemExit(f"continue_final_message: {text!r}")
    print(f"{folder}: {len(tokenizer)} tokens, round trips and template agree")


def main() -> None:
    """Trains, saves, verifies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--conversations", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    save(train(options.conversations, options.seed), options.out)
    verify(options.out)


if __name__ == "__main__":
    main()
