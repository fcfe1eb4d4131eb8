"""The executor for one device: the worker lives in the engine's own process and thread."""

from quire.core.config import EngineConfig
from quire.core.plan import StepPlan
from quire.platform.streams import empty_cache
from quire.runner.ticket import StepTicket
from quire.runner.worker import Worker, start_worker
from quire.weights.progress import ProgressOption


class InProcessExecutor:
    """Starts one worker and hands it every plan."""

    def __init__(self, config: EngineConfig, progress: ProgressOption = True) -> None:
        self._worker: Worker | None = start_worker(config, progress)

    @property
    def worker(self) -> Worker:
        """What was started, with the facts the scheduler and the front end need."""
        assert self._worker is not None, "the executor was shut down"
        return self._worker

    def submit(self, plan: StepPlan) -> StepTicket:
        """Queue a step on the device; does not wait for it."""
        return self.worker.runner.submit(plan)

    @property
    def is_preparing(self) -> bool:
        return self.worker.runner.is_capturing

    def shutdown(self) -> None:
        """Free the model and its cache. May be called again."""
        if self._worker is not None:
            runner, self._worker = self._worker.runner, None
            runner.close()
            caps = runner.caps
            del runner
            empty_cache(caps)
