"""Link: the engine process's end of the socket. Not thread-safe; one thread at a time uses it."""

import logging
import select
import time

import msgspec
import zmq

from quire.core.messages import AddRequest, FromEngine, SequenceDelta, ToEngine
from quire.engine.wire import decode_to_engine, encode_from_engine, refusal

logger = logging.getLogger("quire")

_LINGER_MS = 1000  # how long the last messages may take to leave
_MAX_MESSAGES = 1024  # taken in between two steps


class Link:
    """Connects to the front end's socket.

    A message that is none of the set is dropped and counted. If it was meant to be a request,
    `refused` holds the deltas that end it, for the next outputs.
    """

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self._socket.set(zmq.SNDHWM, 0)  # never blocks: the front end always reads
        self._socket.set(zmq.RCVHWM, 0)
        self._socket.set(zmq.LINGER, _LINGER_MS)
        self._socket.connect(address)
        self._fd = int(self._socket.get(zmq.FD))
        self.num_requests = 0  # those refused, too
        self.num_invalid = 0
        self.refused: list[SequenceDelta] = []

    def send(self, message: FromEngine) -> None:
        """Never waits."""
        self._socket.send(encode_from_engine(message))

    def receive(self, *, wait: bool) -> list[ToEngine]:
        """What has come, in order. `wait` sleeps until there is something to read."""
        messages: list[ToEngine] = []
        flags = 0 if wait else zmq.NOBLOCK
        for _ in range(_MAX_MESSAGES):
            try:
                data = self._socket.recv(flags)
            except zmq.Again:
                break
            flags = zmq.NOBLOCK
            try:
                message = decode_to_engine(data)
            except msgspec.DecodeError as error:
                self._refuse(data, str(error))
                continue
            self.num_requests += isinstance(message, AddRequest)
            messages.append(message)
        return messages

    def wait(self, seconds: float) -> bool:
        """Sleep that long, or until a message comes; whether there is one."""
        deadline = time.perf_counter() + seconds
        while not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            seconds = deadline - time.perf_counter()
            if seconds <= 0:
                return False
            # ZeroMQ's own wait counts milliseconds. Its file descriptor says that there may be
            # something.
            select.select((self._fd,), (), (), seconds)
        return True

    def close(self) -> None:
        """Send what is unsent, for a second at most."""
        self._socket.close()
        self._context.term()

    def _refuse(self, data: bytes, why: str) -> None:
        self.num_invalid += 1
        logger.warning("engine: dropped a message of %d bytes: %s", len(data), why)
        deltas = refusal(data, why)
        self.num_requests += bool(deltas)
        self.refused += deltas
