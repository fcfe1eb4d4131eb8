"""ServerState: what a request handler needs, in one object.

It exists before the engine is ready: the server listens and answers "not yet" while weights
load, and opens the tokenizer meanwhile.
"""

import asyncio
import hashlib
from collections.abc import Callable

import quire
from quire.core.config import EngineConfig
from quire.core.errors import ConfigError, EngineDeadError, QuireError
from quire.core.logs import LogFormat
from quire.core.messages import AbortRequests, AddRequest, ModelInfo, StepOutputs
from quire.engine.frontend import RequestTracker
from quire.engine.remote import RemoteEngine
from quire.engine.tokenizer import open_tokenizer
from quire.metrics.registry import ServerMetrics
from quire.server.admission import EngineRoom, FairAdmission
from quire.server.config import ServerConfig
from quire.server.dispatch import Dispatcher
from quire.server.errors import APIError, unavailable
from quire.server.parsers import check_parsers, choose_parsers, template_source
from quire.server.responses_store import ResponseStore
from quire.text.chat import read_template
from quire.text.tokenizer import Tokenizer

RETRY_WHILE_LOADING = 5.0  # seconds a client is told to wait
MODEL_GOES_FIRST = 5.0  # seconds the engine has to find fault before the tokenizer's is told


class Serving:
    """A ready engine and what belongs to its model."""

    def __init__(self, state: "ServerState", tokenizer: Tokenizer, info: ModelInfo) -> None:
        tracker = RequestTracker(tokenizer, info, state.engine_config.model.max_logprobs)
        self.info = info
        self.tokenizer = tokenizer
        self.dispatcher = Dispatcher(tracker, state.engine, state.metrics)
        self.grammars = tracker.grammars
        self.fingerprint = _fingerprint(info)
        # The server's own choice; None: the tokenizer's.
        self.chat_template = state.chat_template
        # Of the template that applies with tools; empty without one.
        self.template_source = template_source(tokenizer, self.chat_template)
        self.parsers = choose_parsers(state.config, tokenizer, self.template_source)


class ServerState:
    """One server.

    Args:
        log_format: of the engine's process; this one's is the caller's.
        make_engine: `start` starts what it makes.

    Raises:
        ConfigError: the options contradict each other, or name what there is not.
    """

    def __init__(
        self,
        engine_config: EngineConfig,
        server_config: ServerConfig,
        *,
        metrics: ServerMetrics | None = None,
        log_format: LogFormat = "plain",
        make_engine: Callable[..., RemoteEngine] = RemoteEngine,
    ) -> None:
        check_parsers(server_config)
        if engine_config.model.skip_tokenizer_init:
            raise ConfigError("a server needs a tokenizer; leave skip_tokenizer_init off")
        self.engine_config = engine_config
        self.config = server_config
        self.metrics = metrics or ServerMetrics(self.model_names[0])
        by_priority = engine_config.scheduler.policy == "priority"
        self.admission = FairAdmission(server_config, self._room, by_priority=by_priority)
        self.engine = make_engine(
            engine_config,
            on_outputs=self._on_outputs,
            on_restart=self._on_restart,
            on_failed=self.fail,
            stall_timeout=server_config.stall_timeout,
            log_format=log_format,
        )
        self.metrics.watch(self.engine, engine_config, lambda: self.admission.num_waiting)
        # How to end each HTTP request with generations that has not been answered to its end.
        self.open: set[Callable[[Exception], None]] = set()
        self.stopping = False  # SIGTERM came: nothing new is taken
        self.failure: QuireError | None = None  # why there will be no engine any more
        self.responses = ResponseStore(
            server_config.max_stored_responses, server_config.max_stored_bytes
        )
        self.serving: Serving | None = None  # until the model is loaded
        template = server_config.chat_template
        self.chat_template = None if template is None else read_template(template)

    # --- coming up ---

    async def start(self) -> None:
        """Start the engine and open the tokenizer at once; returns when both are done.

        Raises:
            QuireError: why the model cannot be served.
        """
        await self.engine.start()
        opening = asyncio.create_task(asyncio.to_thread(open_tokenizer, self.engine_config))
        loading = asyncio.create_task(self.engine.wait_ready())
        try:
            await asyncio.wait({opening, loading}, return_when=asyncio.FIRST_EXCEPTION)
            if not loading.done():
                # What is wrong with the model is told before what is wrong with its tokenizer.
                await asyncio.wait({loading}, timeout=MODEL_GOES_FIRST)
            await asyncio.gather(*([loading] if loading.done() else []), opening)
        except QuireError as error:
            self.failure = error
            raise
        finally:
            opening.cancel()
            loading.cancel()
        tokenizer = opening.result()
        assert tokenizer is not None, "skip_tokenizer_init is refused"
        self.serving = Serving(self, tokenizer, loading.result())

    def _room(self) -> EngineRoom | None:
        """What admission asks of the engine."""
        if self.serving is None:
            return None
        stats = self.engine.stats
        waiting = 0 if stats is None else stats.num_waiting
        return EngineRoom(self.serving.info.max_num_seqs, waiting)

    # --- what the engine says ---

    def _on_outputs(self, outputs: StepOutputs) -> None:
        if self.serving is not None:
            self.serving.dispatcher.on_outputs(outputs)

    def _on_restart(self) -> list[AddRequest | AbortRequests]:
        return [] if self.serving is None else self.serving.dispatcher.tracker.resume()

    # --- what handlers ask ---

    def ready(self, model: str | None = None) -> Serving:
        """For a request that needs the model, by a name it has; an empty or absent one will do.

        Raises:
            APIError: 503 while loading or stopping, 500 once the engine has failed, 404 for another
                model.
        """
        if self.stopping:
            raise unavailable("The server is shutting down.", RETRY_WHILE_LOADING)
        phase = self.engine_phase()
        if phase == "FAILED":
            raise APIError(500, f"The engine has failed: {self.failure}", "InternalServerError")
        if self.serving is None:
            raise unavailable(f"The model is not ready: {self.describe()}.", RETRY_WHILE_LOADING)
        if model and model not in self.model_names:
            aliases = ", ".join(f"`{alias}`" for alias in self.model_names)
            raise APIError(
                404,
                f"The model `{model}` does not exist. Valid aliases: {aliases}",
                "NotFoundError",
                "model",
            )
        return self.serving

    def engine_phase(self) -> str:
        """STARTING, LOADING, READY, RESTARTING, FAILED or STOPPED."""
        return "FAILED" if self.failure is not None else self.engine.state.name

    def describe(self) -> str:
        """What the server is doing, in words: "loading weights 43%"."""
        if self.failure is not None:
            return str(self.failure)
        phase, fraction = self.engine.progress.phase, self.engine.progress.fraction
        words = phase or self.engine.state.name.lower()
        return words if fraction is None else f"{words} {fraction:.0%}"

    def stalled(self) -> bool:
        """Work is pending and no step has ended for `stall_timeout`."""
        if self.serving is None or not self.serving.dispatcher.num_unfinished:
            return False
        age = self.engine.last_step_age()
        return age is not None and age > self.config.stall_timeout

    def fail(self, error: QuireError) -> None:
        """The engine is gone for good: every waiting request is told, new ones are refused."""
        self.failure = error
        if self.serving is not None:
            self.serving.dispatcher.fail_all(EngineDeadError(str(error)))

    def end_all(self) -> None:
        """The time for running requests is over: each is told."""
        for end in tuple(self.open):
            end(unavailable("The server is shutting down.", RETRY_WHILE_LOADING))

    @property
    def model_names(self) -> tuple[str, ...]:
        """What the model may be called in requests; answers carry the first."""
        return self.config.served_model_names or (self.engine_config.model.model,)


def _fingerprint(info: ModelInfo) -> str:
    """Changes when answers may change for the same request."""
    facts = (info.model, info.architecture, info.dtype, info.device, info.weight_bytes)
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:8]
    return f"quire-{quire.__version__}-{digest}"
