"""InProcessEngine: the front end's handle on an engine in the same process and thread.

The handle speaks the messages of `core.messages` only, so that an engine behind a socket can
take its place.
"""

from quire.core.config import EngineConfig
from quire.core.errors import EngineDeadError
from quire.core.messages import AbortRequests, AddRequest, EngineStats, EngineView, StepOutputs
from quire.core.model_info import ModelInfo
from quire.engine.core import EngineCore
from quire.engine.structured import open_grammars
from quire.executors.in_process import InProcessExecutor
from quire.kv.cache import KVCache
from quire.scheduler.scheduler import Scheduler
from quire.weights.progress import ProgressOption


class InProcessEngine:
    """Loads the model on construction; `step` does the work."""

    def __init__(self, config: EngineConfig, progress: ProgressOption = True) -> None:
        executor = InProcessExecutor(config, progress)
        worker = executor.worker
        info = worker.info
        scheduler = Scheduler(
            KVCache(worker.groups, info.num_pages, info.page_size, info.enable_prefix_caching),
            info.max_num_seqs,
            info.max_num_batched_tokens,
            info.max_model_len,
            config.scheduler.policy,
            config.scheduler.enable_chunked_prefill,
            grammars=open_grammars(config, info),
        )
        self.model_info: ModelInfo = info
        self._core: EngineCore | None = EngineCore(scheduler, executor, worker.async_steps)

    def add(self, request: AddRequest) -> None:
        """Queue a request; its first delta comes from a later `step`."""
        self._live().add(request)

    def abort(self, request: AbortRequests) -> None:
        """Stop sequences and free their pages. Those already finished are ignored."""
        self._live().abort(request)

    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._core is not None and self._core.has_work()

    def step(self) -> StepOutputs:
        """Run until the next step's results are there; empty outputs if nothing can run.

        Raises:
            EngineDeadError: the device failed. The engine cannot be used any more.
        """
        core = self._live()
        try:
            return core.step()
        except RuntimeError as error:  # torch raises these for device faults and lack of memory
            self._core = None
            raise EngineDeadError(
                f"the engine stopped: {str(error).splitlines()[0]}; make a new LLM to go on"
            ) from error

    def stats(self) -> EngineStats:
        """Queue lengths, cache use, counters."""
        return self._live().stats()

    def view(self) -> EngineView:
        """Pages and sequences at this moment, for people."""
        return self._live().view()

    def reset_prefix_cache(self) -> bool:
        """Forget every cached page; False (and nothing done) while sequences hold pages."""
        return self._live().reset_prefix_cache()

    def shutdown(self) -> None:
        """Free the device's memory. May be called again."""
        core, self._core = self._core, None
        if core is not None:
            core.shutdown()

    def _live(self) -> EngineCore:
        if self._core is None:
            raise EngineDeadError("the engine has been shut down; make a new LLM")
        return self._core
