"""InProcessEngine: the front end's handle on an engine in the same process and thread.

The handle speaks the messages of `core.messages` only, so that an engine behind a socket can
take its place.
"""

from quire.core.config import EngineConfig
from quire.core.messages import ModelInfo
from quire.engine.core import EngineCore
from quire.engine.tokenizer import open_grammars
from quire.kv.cache import KVCache
from quire.platform.streams import empty_cache
from quire.runner.worker import start_worker
from quire.scheduler.scheduler import Scheduler
from quire.weights.progress import ProgressOption


class InProcessEngine(EngineCore):
    """Loads the model on construction; `step` does the work."""

    def __init__(self, config: EngineConfig, progress: ProgressOption = True) -> None:
        worker = start_worker(config, progress)
        info: ModelInfo = worker.info
        self.model_info = info
        scheduler = Scheduler(
            KVCache(worker.groups, info.num_pages, info.page_size, info.enable_prefix_caching),
            info.max_num_seqs,
            info.max_num_batched_tokens,
            info.max_model_len,
            config.scheduler.policy,
            config.scheduler.enable_chunked_prefill,
            grammars=open_grammars(config, info),
        )
        self._caps = worker.runner.caps
        super().__init__(scheduler, worker.runner, worker.async_steps)

    def shutdown(self) -> None:
        """Collect what is in flight, then free the model and its cache. May be called again."""
        if self._runner is not None:
            super().shutdown()
            empty_cache(self._caps)
