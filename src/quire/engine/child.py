"""Child: the front end's hold on one engine process, and the socket to it.

Spawns it, carries messages both ways on the event loop, and knows when it has ended and what
its last words were. Decides nothing: that is `engine.remote`'s.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from quire.core.config import EngineConfig
from quire.core.logs import LogFormat
from quire.core.messages import FromEngine, ToEngine
from quire.engine.wire import Launch, decode_from_engine, encode_to_engine
from quire.platform.interpreter import module_command

logger = logging.getLogger("quire")

_STDERR = 2
_MAX_MESSAGES = 64  # in a turn of the loop
_DRAIN_SECONDS = 0.5  # how long a dead engine's last words may still be on their way


class Child:
    """One engine process, from spawn to reaping. Belongs to the running event loop.

    Args:
        path: where the socket is made, in a private directory.
        context: outlives this object.
        on_message: called on the loop for each message, in order. Others are dropped and
            counted.
    """

    def __init__(
        self,
        config: EngineConfig,
        path: Path,
        context: "zmq.Context[zmq.Socket[bytes]]",
        on_message: Callable[[FromEngine], None],
        log_format: LogFormat,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._receiving = False  # a call of `_receive_next` is due
        self._closed = False
        self._num_peers = self._num_accepted = 0
        self.num_invalid = 0
        address = f"ipc://{path}"
        self._socket = _bind(context, address)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._fd = int(self._socket.get(zmq.FD))
        self._loop.add_reader(self._fd, self._receive_next)
        self.exited = asyncio.Event()
        level = logging.getLevelName(logger.getEffectiveLevel()).lower()
        self._process = _spawn(Launch(config, address, os.getpid(), level, log_format))
        self.pid = self._process.pid
        threading.Thread(target=self._reap, name="quire-engine", daemon=True).start()

    @property
    def num_strangers(self) -> int:
        """Connections to the socket besides the engine's. ZeroMQ turns them away."""
        if not self._closed:
            self._count_peers()
        return max(0, self._num_accepted - 1)

    def send(self, message: ToEngine) -> None:
        """Queue a message; never waits. Nothing happens if the engine has just died.

        Raises:
            RequestError: the request cannot be sent to another process.
        """
        data = encode_to_engine(message)
        with contextlib.suppress(zmq.Again):
            self._socket.send(data, zmq.NOBLOCK)
        # ZeroMQ's file descriptor tells of changes only, and sending may have swallowed one.
        self._receive_soon()

    def kill(self) -> None:
        """End it at once, and what it may have started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def gone(self) -> int:
        """Wait for its end and for all it had sent; its exit status, negative for a signal."""
        await self.exited.wait()
        for _ in range(int(_DRAIN_SECONDS / 0.005)):
            self._count_peers()
            if not self._num_peers:
                break
            await asyncio.sleep(0.005)
        while self._receive():
            pass
        status = self._process.returncode
        assert status is not None
        return status

    def close(self) -> None:
        """Close the socket. The process must have ended."""
        self._closed = True
        self._count_peers()
        self._loop.remove_reader(self._fd)
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _reap(self) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for us
            self._loop.call_soon_threadsafe(self.exited.set)

    def _receive_soon(self) -> None:
        if not self._receiving:
            self._receiving = True
            self._loop.call_soon(self._receive_next)

    def _receive_next(self) -> None:
        """All that has come, in one turn of the loop: a front end that is behind sends what several
        steps gave a stream as one chunk, and so catches up."""
        self._receiving = False
        for _ in range(_MAX_MESSAGES):
            if self._closed or not self._receive():
                return
        self._receive_soon()

    def _receive(self) -> bool:
        """Take one message; False if there is none."""
        try:
            data = self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return False
        try:
            message = decode_from_engine(data)
        except msgspec.DecodeError as error:
            self.num_invalid += 1
            logger.warning("dropped %d bytes on the engine's socket: %s", len(data), error)
            return True
        try:
            self._on_message(message)
        except Exception:
            logger.exception("a message of the engine could not be dealt with")
        return True

    def _count_peers(self) -> None:
        """Read what the socket's monitor has noted: who came and left."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_ACCEPTED:
                self._num_peers += 1
                self._num_accepted += 1
            elif event == zmq.EVENT_DISCONNECTED:
                self._num_peers -= 1


def _bind(context: "zmq.Context[zmq.Socket[bytes]]", address: str) -> "zmq.Socket[bytes]":
    socket = context.socket(zmq.PAIR)
    socket.set(zmq.LINGER, 0)
    # No bounds: how much is under way is admission's to limit, and sending must not wait.
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.RCVHWM, 0)
    socket.bind(address)
    return socket


def _spawn(launch: Launch) -> subprocess.Popen[bytes]:
    """Start the process and tell it its launch line. Its standard input stays open: that it
    closes tells the process that we are gone."""
    process = subprocess.Popen(
        module_command("quire.engine.process"),
        stdin=subprocess.PIPE,
        stdout=_STDERR,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already, and will say why
        process.stdin.write(msgspec.json.encode(launch) + b"\n")
    return process
