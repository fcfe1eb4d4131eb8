"""The model's tokens as llguidance wants them: bytes by id, and which are special.

Only tokens that the tokenizer itself calls special are special to a grammar, that is: never
text. Others in angle brackets, such as <tool_call> or <think> of many models, are text.
"""

from collections.abc import Callable, Sequence

from llguidance import LLTokenizer, TokenizerWrapper

# How the library marks the bytes of a special token: no UTF-8 text holds this byte.
_SPECIAL = b"\xff"


class Vocabulary:
    """A tokenizer that grammars are compiled for. Threads share it; made in 0.4 s for 150,000
    tokens.

    Args:
        tokens: the bytes of each id in [0, V); empty for ids that stand for nothing. V is the
            width of the logits.
        special_tokens: text -> id.
        eos_token_ids: any of them ends a text.
        encode: a piece of text within a text -> token ids; special tokens in it are text.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        special_tokens: dict[str, int],
        eos_token_ids: tuple[int, ...],
        encode: Callable[[str], list[int]],
    ) -> None:
        self.size = len(tokens)  # V
        self.special_tokens = special_tokens
        self.eos_token_ids = tuple(i for i in dict.fromkeys(eos_token_ids) if 0 <= i < self.size)
        wrapped = TokenizerWrapper(_Tokens(tokens, special_tokens, self.eos_token_ids, encode))
        self.tokenizer = LLTokenizer(wrapped, eos_token=list(self.eos_token_ids) or None)


class _Tokens:
    """The attributes that `TokenizerWrapper` reads, and the call it makes."""

    bos_token_id = None

    def __init__(
        self,
        tokens: Sequence[bytes],
        special_tokens: dict[str, int],
        eos: tuple[int, ...],
        encode: Callable[[str], list[int]],
    ) -> None:
        self._encode = encode
        self.tokens = list(tokens)
        specials = {i: text for text, i in special_tokens.items()}
        for token_id in eos:
            specials.setdefault(token_id, f"<[{token_id}]>")
        for token_id, text in specials.items():
            if token_id < len(self.tokens):
                self.tokens[token_id] = _SPECIAL + text.encode("utf-8")
        self.special_token_ids = sorted(i for i in specials if i < len(self.tokens))
        self.eos_token_id = eos[0] if eos else 0

    def __call__(self, text: bytes | str) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self._encode(text)
