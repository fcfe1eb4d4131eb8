"""Runner: executes step plans on one device. `submit(plan) -> ticket`, read later.

Owns the model, the KV tensors, the device rows and the sampler. It makes no choices: who runs,
on which pages and how far is the plan's. The same code serves CPU and GPU; what differs is
which ops were selected. Nothing in `submit` waits for the device.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quire.core.plan import RowStart, StepPlan
from quire.kernels.batch import LayerCache
from quire.kernels.table import Ops
from quire.platform.caps import DeviceCaps
from quire.platform.streams import Event
from quire.runner.capturing import Captures
from quire.runner.decode import DecodeCalls, DecodeOutput
from quire.runner.graph_pool import BucketGraphs, GraphPool
from quire.runner.graphs import DecodeGraphs, WholeStep
from quire.runner.model import Model
from quire.runner.pooling import PooledLines, Pooler
from quire.runner.prompt_graphs import PromptGraphs
from quire.runner.rows import DeviceRows, DeviceStep
from quire.runner.ticket import StepTicket
from quire.sampling.logprobs import LogprobTensors
from quire.sampling.sampler import Sampler, SamplerOutput

if TYPE_CHECKING:
    from quire.kernels.compiling import Listing

# Rows of logits held at once for prompt log-probabilities: 256 x V fp32, 128 MiB at V = 128k.
PROMPT_LOGPROB_ROWS = 256


class Runner:
    """One device's step machine.

    Args:
        model: a Decoder or FallbackModel: `forward(inputs, kv)` and `logits(hidden)`.
        caches: per layer (keys, values), each [N, K, P, D].
        pool: replay steps as CUDA graphs of this pool, where there are any for them.
        prompt_tokens: of the largest step with prompts that is to be such a graph.
    """

    def __init__(
        self,
        model: Model,
        caches: list[LayerCache],
        rows: DeviceRows,
        ops: Ops,
        vocab_size: int,
        caps: DeviceCaps,
        pool: GraphPool | None = None,
        prompt_tokens: int = 0,
    ) -> None:
        self._model = model
        self._caches = caches
        self._rows = rows
        self.caps = caps
        self._sampler = Sampler(
            vocab_size, rows.tokens.shape[0], torch.device(caps.torch_device), ops
        )
        self._decode_calls = DecodeCalls.of(model, caches, rows, self._sampler, ops)
        self._pool = pool
        self._decode_graphs = self._prompt_graphs = self._captures = None
        self._logits_bytes = 0  # of the largest graph's
        if pool is not None:
            step = WholeStep(model, caches, rows, self._sampler)
            self._logits_bytes = step.logits_bytes
            self._decode_graphs = DecodeGraphs(step, rows, pool, caps)
            self._prompt_graphs = PromptGraphs(step, rows, pool, caps, prompt_tokens)
            decode = [self._decode_graphs.graphs, self._decode_graphs.shared_graphs]
            kinds: list[BucketGraphs[Any]] = [*decode, *self._prompt_graphs.kinds]
            self._captures = Captures(kinds, pool.missed, caps)
        self._most_captured = max(prompt_tokens, rows.tokens.shape[0])
        self._pooler = Pooler()
        self._starts: dict[int, RowStart] = {}  # by row, while it runs

    @torch.inference_mode()
    def submit(self, plan: StepPlan) -> StepTicket:
        """Queue a step on the device and return its ticket without waiting.

        Plans run in the order of their submission. The ticket stays valid whatever is
        submitted after it. On a machine that has not compiled a kernel yet, its first launch waits
        for that.
        """
        if self._captures is not None:
            self._captures.note_step()
        with nullcontext() if self._pool is None else self._pool.compiler.launching():
            return self._submit(plan)

    def _submit(self, plan: StepPlan) -> StepTicket:
        for row in plan.released:
            self._sampler.rows.release(row)
            self._pooler.release(row)
            self._starts.pop(row, None)
        for start in plan.starts:
            if start.pooling is None:
                self._sampler.rows.start(start)
            else:
                self._pooler.start(start)
            self._starts[start.row] = start
        for index, mask in plan.masks.items():
            self._sampler.rows.set_mask(plan.rows[index], mask)
        drawn = self._in_one_call(plan)
        if drawn is not None:
            sample_lines = [line for line, samples in enumerate(plan.samples) if samples]
            return self._ticket(plan, sample_lines, self._sampled(plan, drawn))
        step = self._rows.apply(plan)
        hidden, last = self._forward(plan, step)
        output = None
        if step.sample_lines:
            logits = self._model.logits(last)
            output = self._sample(
                plan, logits, step.sample_rows, step.sample_rows_device, step.sample_positions
            )
        if hidden is None:
            return self._ticket(plan, step.sample_lines, output)
        prompt_logprobs = self._prompt_logprobs(plan, hidden)
        pooled = self._pooler.pool(plan, hidden)
        return self._ticket(plan, step.sample_lines, output, prompt_logprobs, pooled)

    def _in_one_call(self, plan: StepPlan) -> DecodeOutput | None:
        """The whole step as one launch or call, None where there is none for it."""
        decode = self._decode_graphs or self._decode_calls
        drawn = None if decode is None else decode.run(plan)
        if drawn is not None or self._prompt_graphs is None or self._want_all(plan):
            return drawn
        return self._prompt_graphs.run(plan)

    def _forward(self, plan: StepPlan, step: DeviceStep) -> tuple[Tensor | None, Tensor]:
        """Hidden states of all tokens, if they are wanted, and of those that give logits."""
        if not self._want_all(plan):
            return None, self._model.forward(step.inputs, self._caches, step.sample_tokens)
        hidden = self._model.forward(step.inputs, self._caches)
        return hidden, hidden.index_select(0, step.sample_tokens)

    def _want_all(self, plan: StepPlan) -> bool:
        """Whether hidden states of more tokens than those that give logits are needed."""
        starts = (self._starts[row] for row in plan.rows)
        return any(start.pooling or start.params.prompt_logprobs is not None for start in starts)

    @torch.inference_mode()
    def list_kernels(self, plan: StepPlan) -> "Listing":
        """The kernels of `plan`, a step of prompts, that are not compiled. Allocates what it does,
        and runs nothing of it."""
        assert self._pool is not None
        for start in plan.starts:
            self._sampler.rows.start(start)
        self._sampler.rows.refresh()
        with self._pool.compiler.listing():  # of which `list_decode_kernels` tells
            step = self._rows.apply(plan)

        def forward() -> Tensor:
            hidden = self._model.forward(step.inputs, self._caches, step.sample_tokens)
            logits = self._model.logits(hidden)
            rows, positions = step.sample_rows_device, step.sample_positions
            token_ids = self._sampler.draw_rows(logits, rows, positions)
            self._rows.append(rows, positions, token_ids)
            return token_ids

        return self._pool.record(forward).without

    @torch.inference_mode()
    def list_decode_kernels(self) -> "Listing":
        """The kernels of a decode step of one sequence that are not compiled."""
        assert self._decode_graphs is not None
        return self._decode_graphs.graphs.list_kernels(1)

    def graph_bytes(self, step_bytes: int, step_tokens: int) -> tuple[int, int]:
        """What one capture may take, and all of them together, beside what eager steps do, the
        largest of which has `step_tokens` and takes `step_bytes`."""
        logits = self._logits_bytes
        largest = logits + step_bytes * self._most_captured // step_tokens
        # Where a small one's temporaries were there is no room for a larger one's: all take up to
        # twice the largest's, and there must be room for one more before each.
        return largest, logits + 3 * largest

    def capture_ahead(self) -> None:
        """From now on capture graphs, beside the steps."""
        if self._captures is not None:
            self._captures.start()

    @property
    def is_capturing(self) -> bool:
        return self._captures is not None and self._captures.busy

    def close(self) -> None:
        if self._captures is not None:
            self._captures.close()
        if self._pool is not None:
            self._pool.compiler.close()

    def _ticket(
        self,
        plan: StepPlan,
        sample_lines: list[int],
        output: SamplerOutput | None,
        prompt_logprobs: dict[int, list[LogprobTensors]] | None = None,
        pooled: PooledLines | None = None,
    ) -> StepTicket:
        sampled = None if output is None else output.token_ids
        if sampled is not None and self.caps.kind != "cpu":
            # torch pins the destination of such a copy, so it is queued and not waited for.
            sampled = sampled.to("cpu", non_blocking=True)
        event = Event(torch.device(self.caps.torch_device))
        return StepTicket(plan, sample_lines, output, sampled, prompt_logprobs or {}, pooled, event)

    def _sampled(self, plan: StepPlan, decoded: DecodeOutput) -> SamplerOutput:
        """What was drawn; drawn again where there is more to it."""
        again = decoded.undrawn
        if again is None:
            return SamplerOutput(decoded.token_ids)
        return self._sample(plan, again.logits, again.host_rows, again.rows, again.positions)

    def _sample(
        self,
        plan: StepPlan,
        logits: Tensor,
        host_rows: np.ndarray,
        rows: Tensor,
        positions: Tensor,
    ) -> SamplerOutput:
        longest = max(map(sum, zip(plan.num_computed, plan.query_lens)))
        output = self._sampler.sample(
            logits,
            host_rows,
            positions,
            self._rows.tokens,
            self._history_reader(plan),
            longest,
        )
        self._rows.append(rows, positions, output.token_ids)
        return output

    def _history_reader(self, plan: StepPlan) -> Callable[[int], tuple[list[int], list[int]]]:
        """Reads a row's (prompt ids, output ids) back from the device, for host-side logits
        processors. Such rows are never planned while a token of theirs is pending."""

        def read(row: int) -> tuple[list[int], list[int]]:
            line = plan.rows.index(row)
            length = plan.num_computed[line] + plan.query_lens[line]
            ids = self._rows.tokens[row, :length].tolist()
            prompt = self._starts[row].num_prompt_tokens
            return ids[:prompt], ids[prompt:]

        return read

    def _prompt_logprobs(self, plan: StepPlan, hidden: Tensor) -> dict[int, list[LogprobTensors]]:
        """Log-probabilities of the prompt tokens that follow the ones computed in this step."""
        scores: dict[int, list[LogprobTensors]] = {}
        first = 0  # index in the step of the sequence's first token
        for line, (row, length) in enumerate(zip(plan.rows, plan.query_lens)):
            start, begin = self._starts[row], plan.num_computed[line]
            wanted = start.params.prompt_logprobs
            # The last prompt token's logits give the first output token, not a prompt token.
            end = min(begin + length, start.num_prompt_tokens - 1)
            if wanted is not None and begin < end:
                targets = self._rows.tokens[row, begin + 1 : end + 1].long()
                mine = hidden[first : first + end - begin]
                parts = zip(mine.split(PROMPT_LOGPROB_ROWS), targets.split(PROMPT_LOGPROB_ROWS))
                scores[line] = [
                    self._sampler.prompt_logprobs(self._model.logits(some), their, wanted)
                    for some, their in parts
                ]
            first += length
        return scores
