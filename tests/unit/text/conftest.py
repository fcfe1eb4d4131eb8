"""Tokenizers of every kind, trained on the spot and saved as `transformers` saves them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Hello, my name is Quire and I serve large language models.",
    "The capital of France is Paris; the capital of South Korea is Seoul.",
    "안녕하세요! 대한민국의 수도는 서울입니다.",
    "東京は日本の首都です。ありがとう。",
    "def f(x):\n    return x ** 2  # naïve café 🙂👩‍👩‍👧",
    "one two three four five six seven eight nine ten",
] * 4

SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]


def _byte_level() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def _byte_level_with_bos() -> Tokenizer:
    backend = _byte_level()
    bos = backend.token_to_id("<s>")
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)]),
        ]
    )
    return backend


def _word_piece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def _word_level() -> Tokenizer:
    """No decoder at all: the library joins tokens with spaces."""
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def _unigram_metaspace() -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def _llama_like() -> Tokenizer:
    """BPE with byte fallback and ▁, as converted from SentencePiece (Llama 2, Mistral)."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[*SPECIAL, *bytes_], limit_alphabet=40, show_progress=False
    )
    trained.train_from_iterator(CORPUS, trainer)
    state = json.loads(trained.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in SPECIAL]
    state["model"] |= {"byte_fallback": True, "fuse_unk": True}
    state["pre_tokenizer"] = None
    backend = Tokenizer.from_str(json.dumps(state))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    bos = backend.token_to_id("<s>")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bos)]
    )
    return backend


def _bpe_suffix() -> Tokenizer:
    """Word-end suffixes (GPT-1, CLIP): the last token of a text decodes differently."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


BUILDERS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": _byte_level,
    "byte_level_with_bos": _byte_level_with_bos,
    "word_piece": _word_piece,
    "word_level": _word_level,
    "unigram_metaspace": _unigram_metaspace,
    "llama_like": _llama_like,
    "bpe_suffix": _bpe_suffix,
}


@pytest.fixture(scope="session")
def tokenizer_directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> a directory holding that tokenizer."""
    directories = {}
    for kind, build in BUILDERS.items():
        backend = build()
        backend.add_tokens([AddedToken("<tool_call>", normalized=False)])
        hf = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        directory = tmp_path_factory.mktemp(kind)
        hf.save_pretrained(directory)
        (directory / "config.json").write_text('{"model_type": "llama"}')
        directories[kind] = directory
    return directories


@pytest.fixture(params=list(BUILDERS))
def tokenizer_directory(
    request: pytest.FixtureRequest, tokenizer_directories: dict[str, Path]
) -> Path:
    """Each kind in turn."""
    return tokenizer_directories[request.param]
