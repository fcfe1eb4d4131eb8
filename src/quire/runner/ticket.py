"""StepTicket: a submitted step whose result is read later."""

from dataclasses import dataclass

from torch import Tensor

from quire.core.plan import StepPlan, StepResult
from quire.platform.streams import Event
from quire.runner import pooling
from quire.runner.pooling import PooledLines
from quire.sampling.logprobs import LogprobTensors
from quire.sampling.sampler import SamplerOutput

NOT_A_NUMBER = (
    "the model's logits are not a number (or no token is allowed): "
    "try dtype=bfloat16 or float32, or check the checkpoint"
)


@dataclass(frozen=True, slots=True)
class StepTicket:
    """The device's side of a step. `result()` waits for it; before that nothing blocks.

    Args:
        sample_lines: plan index of each sampled line.
        output: what the sampler said, None where nothing was sampled.
        sampled: its token ids [S'] int64 on the host, valid once `event` is reached.
        prompt_logprobs: plan index -> one tensor group per run of prompt positions.
        pooled: the vectors of prompts that this step completes, None if there are none.
        event: recorded after the last copy to the host.
    """

    plan: StepPlan
    sample_lines: list[int]
    output: SamplerOutput | None
    sampled: Tensor | None
    prompt_logprobs: dict[int, list[LogprobTensors]]
    pooled: PooledLines | None
    event: Event

    def ready(self) -> bool:
        return self.event.ready()

    def result(self) -> StepResult:
        """Wait for the step and read what it sampled."""
        self.event.wait()
        result = StepResult(token_ids=[[] for _ in self.plan.rows])
        if self.output is not None and self.sampled is not None:
            self._read_samples(self.output, self.sampled.tolist(), result)
        for index, runs in self.prompt_logprobs.items():
            result.prompt_logprobs[index] = [entry for run in runs for entry in run.to_host()]
        if self.pooled is not None:
            for index, vector in self.pooled.results():
                if vector is None:
                    result.failed[index] = pooling.NOT_A_NUMBER
                else:
                    result.pooled[index] = vector
        return result

    def _read_samples(self, output: SamplerOutput, sampled: list[int], result: StepResult) -> None:
        for line, (index, token) in enumerate(zip(self.sample_lines, sampled)):
            if token >= 0 and line not in output.errors:
                result.token_ids[index] = [token]
            else:
                result.failed[index] = output.errors.get(line, NOT_A_NUMBER)
        if output.logprobs is not None:
            for line, entry in zip(output.logprob_lines, output.logprobs.to_host()):
                result.logprobs[self.sample_lines[line]] = [entry]
