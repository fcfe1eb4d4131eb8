"""Serving: listen at once, load meanwhile, stop without cutting anybody off."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator

import uvicorn

from quire.core import garbage
from quire.core.errors import ConfigError
from quire.server.app import create_app
from quire.server.config import ServerConfig
from quire.server.state import ServerState

logger = logging.getLogger("quire")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL = 0.05  # seconds between two looks at whether everybody has been answered
_CLOSE_TIMEOUT = 5.0  # seconds that connections get to close once nothing runs
ENGINE_STOP_TIMEOUT = 10.0  # seconds that the engine gets to end its step


class _HTTPServer(uvicorn.Server):
    """uvicorn without its own signal handlers: this module has better ones."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def serve(state: ServerState, on_listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs. Returns when all is over.

    Args:
        on_listening: told the address once it can be connected to.

    Raises:
        QuireError: the model cannot be served, or the address not be listened on.
    """
    config = state.config
    try:
        server = _HTTPServer(_uvicorn_config(state))
    except (OSError, ValueError) as error:  # also what the TLS library raises
        files = f"--ssl-certfile {config.ssl_certfile}, --ssl-keyfile {config.ssl_keyfile}"
        raise ConfigError(f"TLS cannot be set up with {files}: {error}") from None
    stop = _Stop(state, server)
    listener = _listen(config)
    with stop.on_signals(), contextlib.closing(listener):
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="quire-http")
        loading = asyncio.create_task(_load(state), name="quire-load")
        try:
            if on_listening is not None:
                on_listening(address_of(config, listener))
            await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and loading.exception() is not None:
                server.should_exit = True
            await serving
            if loading.done() and not loading.cancelled():
                loading.result()  # the cause, if that is why it is over
        finally:
            server.should_exit = True
            loading.cancel()
            await asyncio.gather(serving, loading, return_exceptions=True)
            await state.engine.shutdown(ENGINE_STOP_TIMEOUT)
            stop.over()
            if config.uds is not None:
                with contextlib.suppress(OSError):
                    os.unlink(config.uds)


async def _load(state: ServerState) -> None:
    await state.start()
    garbage.settle()


class _Stop:
    """What a signal starts: nothing new is taken, what runs is finished, then the server ends. At
    a second signal nothing is finished, but every client told; a third does not wait for that."""

    def __init__(self, state: ServerState, server: _HTTPServer) -> None:
        self._state = state
        self._server = server
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Meanwhile signals come here, where the event loop can have them."""
        loop = asyncio.get_running_loop()
        taken = []
        for number in _SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self)
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def __call__(self) -> None:
        if self._draining is None:
            self._state.stopping = True
            self._draining = asyncio.create_task(self._drain(), name="quire-drain")
        elif not self._server.should_exit:
            logger.warning("a second signal: stopping now")
            self._end_now()
        else:
            self._server.force_exit = True

    async def _drain(self) -> None:
        state, loop = self._state, asyncio.get_running_loop()
        timeout = state.config.shutdown_timeout
        if state.open:
            logger.info("shutting down: %d requests have %g s to finish", len(state.open), timeout)
        deadline = loop.time() + timeout
        while state.open and loop.time() < deadline:
            await asyncio.sleep(_POLL)
        self._end_now()

    def _end_now(self) -> None:
        if self._state.open:
            logger.warning("shutting down with %d requests unfinished", len(self._state.open))
            self._state.end_all()
        self._server.should_exit = True

    def over(self) -> None:
        """Nothing is left to stop."""
        if self._draining is not None:
            self._draining.cancel()


def _uvicorn_config(state: ServerState) -> uvicorn.Config:
    config = state.config
    if config.ssl_keyfile and not config.ssl_certfile:
        raise ConfigError("--ssl-keyfile needs --ssl-certfile, the certificate that belongs to it")
    made = uvicorn.Config(
        state.metrics.wrap(create_app(state)),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=config.uvicorn_log_level,
        access_log=config.access_log,
        server_header=False,
        root_path="",  # the application's own
        timeout_keep_alive=config.timeout_keep_alive,
        timeout_graceful_shutdown=round(_CLOSE_TIMEOUT),
        ssl_keyfile=config.ssl_keyfile,
        ssl_certfile=config.ssl_certfile,
        ssl_ca_certs=config.ssl_ca_certs,
        ssl_cert_reqs=config.ssl_cert_reqs,
        ssl_ciphers=config.ssl_ciphers or "TLSv1",  # uvicorn's own default
    )
    made.load()
    return made


def _listen(config: ServerConfig) -> socket.socket:
    """The listening socket. Raises ConfigError naming the address."""
    try:
        if config.uds is not None:
            return _listen_on_path(config.uds)
        host = config.host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        dual = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        if family == socket.AF_INET:
            host = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)[0][4][0]  # type: ignore[assignment]
        return socket.create_server(
            (host, config.port), family=family, backlog=2048, dualstack_ipv6=dual
        )
    except OSError as error:
        where = config.uds or f"{config.host or '*'}:{config.port}"
        raise ConfigError(
            f"cannot listen on {where}: {error.strerror or error}; choose another --port or --host"
        ) from None


def _listen_on_path(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(path)
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """A socket that nobody listens on any more, left by a server that was killed."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def address_of(config: ServerConfig, listener: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    if config.uds is not None:
        return f"unix:{config.uds}"
    scheme = "https" if config.ssl_certfile else "http"
    host = config.host if config.host not in (None, "", "0.0.0.0", "::") else "localhost"
    shown = f"[{host}]" if ":" in str(host) else host
    return f"{scheme}://{shown}:{listener.getsockname()[1]}{config.root_path}"


def run(state: ServerState, on_listening: Callable[[str], None] | None = None) -> None:
    """`serve`, in an event loop of its own (uvloop where there is one). Raises as it does."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(state, on_listening))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for this platform
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
