"""Every row's sampling parameters: mirrors on the host, tables [R] on the device.

A row's parameters change only when a sequence takes it. What the device needs is uploaded
lazily, once for all changes since the last time. What is sparse (biases, banned tokens, the
user's processors) stays on the host until `batch.py` puts a step together.
"""

from collections.abc import Sequence
from enum import IntFlag
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quire.core.plan import RowStart
from quire.core.sampling_params import SamplingParams
from quire.kernels.table import DrawNumbers as DrawNumbers
from quire.sampling.bias import ALWAYS
from quire.sampling.logprobs import resolve_k
from quire.sampling.processors import processors_of
from quire.sampling.token_mask import TokenMask, pack
from quire.sampling.upload import upload


class Feature(IntFlag):
    """What a row uses beyond temperature, top_k, top_p and min_p."""

    NONE = 0
    MASK = 1
    BANNED_SEQUENCES = 2
    BIAS = 4
    PROCESSORS = 8
    PENALTIES = 16
    COUNTS = 32  # of those, the ones that count the output: frequency and presence
    LOGPROBS = 64


class Additions:
    """A row's sparse biases: token ids and `until` positions [n] int64, values [n] fp32.

    Single-token bad words, stop tokens before `min_tokens`, and logit_bias, as one list. Tokens
    outside the vocabulary have no logit: an end-of-sequence id of the config may be such.
    """

    def __init__(self, start: RowStart, vocab_size: int) -> None:
        params = start.params
        bans = {ids[0]: ALWAYS for ids in start.bad_words_ids if len(ids) == 1}
        if params.min_tokens > 0:
            until = start.num_prompt_tokens + params.min_tokens
            for token in start.stop_token_ids:
                bans.setdefault(token, until)
        entries = [(token, float("-inf"), until) for token, until in bans.items()]
        entries += [(token, value, ALWAYS) for token, value in (params.logit_bias or {}).items()]
        entries = [entry for entry in entries if 0 <= entry[0] < vocab_size]
        tokens, values, untils = zip(*entries, strict=True) if entries else ((), (), ())
        self.tokens = np.array(tokens, dtype=np.int64)
        self.values = np.array(values, dtype=np.float32)
        self.until = np.array(untils, dtype=np.int64)


class RowExtras:
    """What of a row's parameters is not a number per row."""

    def __init__(self, start: RowStart, vocab_size: int) -> None:
        params = start.params
        self.num_prompt_tokens = start.num_prompt_tokens
        self.additions = Additions(start, vocab_size)
        words = start.bad_words_ids
        self.banned_sequences = [ids for ids in words if len(ids) > 1 and ids[-1] < vocab_size]
        self.processors = processors_of(params.logits_processors or ())
        # k, where Feature.LOGPROBS is set
        self.num_logprobs = 0 if params.logprobs is None else resolve_k(params.logprobs, vocab_size)


class RowNumbers(NamedTuple):
    """The numeric parameters of S lines on the device, [S] each, in `ops.sample`'s dtypes."""

    temperature: Tensor
    top_p: Tensor
    min_p: Tensor
    repetition: Tensor
    frequency: Tensor
    presence: Tensor
    seed: Tensor
    top_k: Tensor
    num_prompt_tokens: Tensor


DRAW_DTYPES = (
    torch.float32,
    torch.int32,
    torch.float32,
    torch.float32,
    torch.int64,
    torch.int64,
)


class RowTable:
    """The parameters of R rows. `version` changes whenever a row's do."""

    def __init__(self, vocab_size: int, num_rows: int, device: torch.device) -> None:
        self.vocab_size = vocab_size
        self.device = device
        self.version = 0
        self.features = np.zeros(num_rows, dtype=np.int64)  # Feature bits
        self.special: set[int] = set()  # the rows that have any
        self.extras: list[RowExtras | None] = [None] * num_rows
        self.mask = TokenMask(num_rows, vocab_size, device)
        self._allowed: dict[int, np.ndarray] = {}  # row -> the mask of its allowed_token_ids
        # A line per number, in the order of `RowNumbers`.
        self._floats = np.zeros((6, num_rows), dtype=np.float32)
        self._integers = np.zeros((3, num_rows), dtype=np.int64)
        self._device_floats = upload(self._floats, device)
        self._device_integers = upload(self._integers, device)
        self._uploaded_version = 0

    def start(self, start: RowStart) -> None:
        """Remember the parameters of the sequence that takes the row."""
        params, row = start.params, start.row
        self.version += 1
        self._floats[:, row] = _floats(params)
        self._integers[:, row] = _integers(start, self.vocab_size)
        extras = RowExtras(start, self.vocab_size)
        self.extras[row] = extras
        self.features[row] = features = _features(params, extras)
        (self.special.add if features else self.special.discard)(row)
        self._allowed.pop(row, None)
        if params.allowed_token_ids is not None:
            self._allowed[row] = pack(params.allowed_token_ids, self.vocab_size)
            self.mask.set(row, self._allowed[row])

    def set_mask(self, row: int, mask: np.ndarray) -> None:
        """What the row may sample next, besides `allowed_token_ids`: [ceil(V / 32)] int32."""
        assert self.features[row] & int(Feature.MASK), f"row {row} has no grammar"
        allowed = self._allowed.get(row)
        self.mask.set(row, mask if allowed is None else mask & allowed)

    def release(self, row: int) -> None:
        """Forget the row: it holds no references to the request any more."""
        self.version += 1
        self.extras[row] = None
        self.features[row] = Feature.NONE
        self.special.discard(row)
        self._allowed.pop(row, None)

    def refresh(self) -> None:
        """Send the device what changed."""
        if self._uploaded_version != self.version:
            self._device_floats.copy_(upload(self._floats, self.device))
            self._device_integers.copy_(upload(self._integers, self.device))
            self._uploaded_version = self.version

    def host_numbers(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, ...]:
        """Those of `rows` [S] that `DrawNumbers` begins with."""
        index = np.array(rows)
        temperature, top_p, min_p = self._floats[:3].take(index, axis=1)
        seed, top_k = self._integers[:2].take(index, axis=1)
        return temperature, top_k.astype(np.int32), top_p, min_p, seed

    def numbers(self) -> RowNumbers:
        """Those of every row [R], as of the last `refresh`; `top_k` is int64."""
        return RowNumbers._make([*self._device_floats, *self._device_integers])

    def gather(self, rows: Tensor) -> RowNumbers:
        """The numbers of `rows` [S] on the device, as of the last `refresh`."""
        floats = self._device_floats.index_select(1, rows).unbind(0)
        seed, top_k, num_prompt = self._device_integers.index_select(1, rows).unbind(0)
        return RowNumbers._make([*floats, seed, top_k.to(torch.int32), num_prompt])


def _floats(params: SamplingParams) -> tuple[float, ...]:
    # The filters cannot change a greedy choice; off, they cost nothing.
    top_p, min_p = (1.0, 0.0) if params.greedy else (params.top_p, params.min_p)
    return (
        params.temperature,
        top_p,
        min_p,
        params.repetition_penalty,
        params.frequency_penalty,
        params.presence_penalty,
    )


def _integers(start: RowStart, vocab_size: int) -> tuple[int, ...]:
    top_k = start.params.top_k
    if start.params.greedy or not 0 < top_k < vocab_size:
        top_k = 0
    signed_seed = (start.seed + 2**63) % 2**64 - 2**63  # the same 64 bits as int64
    return signed_seed, top_k, start.num_prompt_tokens


def _features(params: SamplingParams, extras: RowExtras) -> Feature:
    counts = params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
    used = {
        Feature.MASK: params.allowed_token_ids is not None or params.structured_outputs is not None,
        Feature.BANNED_SEQUENCES: bool(extras.banned_sequences),
        Feature.BIAS: extras.additions.tokens.size > 0,
        Feature.PROCESSORS: bool(extras.processors),
        Feature.PENALTIES: counts or params.repetition_penalty != 1.0,
        Feature.COUNTS: counts,
        Feature.LOGPROBS: params.logprobs is not None,
    }
    return Feature(sum(feature for feature, is_used in used.items() if is_used))
