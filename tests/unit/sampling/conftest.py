"""A sampler on the CPU's real ops, and a slow, obvious oracle for one request at a time."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from quire.core.plan import RowStart
from quire.core.sampling_params import SamplingParams
from quire.kernels.sample import reference
from quire.kernels.select import select_ops
from quire.kernels.table import DrawNumbers
from quire.platform.detect import detect
from quire.sampling.sampler import Sampler, SamplerOutput

INFINITY = float("inf")


@dataclass
class Request:
    """One sequence: what it was asked for and what it has so far."""

    params: SamplingParams
    prompt: list[int]
    output: list[int] = field(default_factory=list)
    stop_token_ids: tuple[int, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    seed: int = 0

    def expected_logits(self, logits: list[float]) -> list[float]:
        """What the draw should see, token by token in plain Python floats."""
        result = []
        for token, value in enumerate(logits):
            value = -INFINITY if self._is_banned(token) else value
            value += (self.params.logit_bias or {}).get(token, 0.0)
            value = self._penalised(token, value)
            result.append(value)
        return result

    def _is_banned(self, token: int) -> bool:
        allowed = self.params.allowed_token_ids
        if allowed is not None and token not in allowed:
            return True
        if len(self.output) < self.params.min_tokens and token in self.stop_token_ids:
            return True
        for word in self.bad_words_ids:
            head = list(word[:-1])
            ends_in_head = len(head) <= len(self.output) and (
                not head or self.output[-len(head) :] == head
            )
            if token == word[-1] and ends_in_head:
                return True
        return False

    def _penalised(self, token: int, value: float) -> float:
        factor = self.params.repetition_penalty
        if token in self.prompt or token in self.output:
            value = value / factor if value > 0 else value * factor
        count = self.output.count(token)
        value -= self.params.frequency_penalty * count
        return value - (self.params.presence_penalty if count else 0.0)

    def expected_token(self, logits: list[float]) -> int:
        """The reference draw from the expected logits, alone."""
        params = self.params
        line = torch.tensor([self.expected_logits(logits)], dtype=torch.float32)
        signed = self.seed - 2**64 if self.seed >= 2**63 else self.seed
        numbers = DrawNumbers(
            torch.tensor([params.temperature]),
            torch.tensor([params.top_k], dtype=torch.int32),
            torch.tensor([params.top_p]),
            torch.tensor([params.min_p]),
            torch.tensor([signed]),
            torch.tensor([len(self.prompt) + len(self.output)]),
        )
        return int(reference.sample(line, numbers))

    def expected_logprobs(self, logits: list[float], token: int) -> tuple[list[float], int]:
        """log softmax of the model's logits, and the rank of `token`."""
        top = max(logits)
        total = top + math.log(sum(math.exp(value - top) for value in logits))
        return [v - total for v in logits], 1 + sum(v > logits[token] for v in logits)


class Harness:
    """A sampler with rows, the token ids on the device, and a look at what the draw is given."""

    def __init__(self, vocab_size: int, num_rows: int, max_len: int = 64) -> None:
        ops = select_ops(detect("cpu"))

        def watched(logits: Tensor, numbers: DrawNumbers) -> Tensor:
            self.drawn_from = logits.clone()
            self.draw_arguments = numbers
            return ops.sample(logits, numbers)

        self.vocab_size = vocab_size
        self.sampler = Sampler(
            vocab_size, num_rows, torch.device("cpu"), dataclasses.replace(ops, sample=watched)
        )
        # Columns past a sequence's end hold leftovers that must not be looked at.
        self.tokens = torch.randint(0, vocab_size, (num_rows, max_len))
        self.requests: dict[int, Request] = {}
        self.drawn_from = torch.empty(0)
        self.draw_arguments: tuple[Tensor, ...] = ()

    def start(self, row: int, request: Request) -> None:
        """The request takes the row, with the output it may already have."""
        self.requests[row] = request
        known = request.prompt + request.output
        self.tokens[row, : len(known)] = torch.tensor(known)
        self.sampler.rows.start(
            RowStart(
                row=row,
                token_ids=known,
                num_prompt_tokens=len(request.prompt),
                params=request.params,
                seed=request.seed,
                stop_token_ids=request.stop_token_ids,
                bad_words_ids=request.bad_words_ids,
            )
        )

    def release(self, row: int) -> None:
        del self.requests[row]
        self.sampler.rows.release(row)

    def step(
        self, logits: Tensor, rows: list[int], max_position: int | None = None
    ) -> SamplerOutput:
        """Sample once, append what came out. `logits` [S, V] stay as they are."""
        positions = torch.tensor(
            [len(self.requests[row].prompt) + len(self.requests[row].output) for row in rows]
        )
        output = self.sampler.sample(
            logits.clone(),
            np.array(rows, dtype=np.int32),
            positions,
            self.tokens,
            host_tokens=lambda row: (self.requests[row].prompt, self.requests[row].output),
            max_position=max_position,
        )
        for row, position, token in zip(rows, positions.tolist(), output.token_ids.tolist()):
            if token >= 0:
                self.tokens[row, position] = token
                self.requests[row].output.append(token)
        return output


@pytest.fixture
def request_of() -> Callable[..., Request]:
    """`Request` itself: test modules do not import each other."""
    return Request


@pytest.fixture
def harness() -> Callable[..., Harness]:
    """`Harness` itself."""
    return Harness


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)
