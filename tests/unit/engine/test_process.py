"""The engine process's loop over a real socket; its engine is a script, so that it can fail."""

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
import zmq

from quire.core.errors import EngineDeadError, InsufficientMemoryError, RequestError
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    AskView,
    EngineStats,
    EngineView,
    FromEngine,
    PoolView,
    SequenceDelta,
    StepOutputs,
    Stop,
    ToEngine,
    ViewReply,
)
from quire.core.sampling_params import SamplingParams
from quire.engine.client import InProcessEngine
from quire.engine.link import Link
from quire.engine.process import LoadReport, Loop, _cause
from quire.engine.wire import decode_from_engine, encode_to_engine


class Script:
    """One token a step for each request; "blocked" ones wait until `release`."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}
        self.num_steps = self.num_calls = 0
        self.spare = 0.0  # seconds before a step of one request
        self.done: list[str] = []
        self.released = threading.Event()

    def add(self, request: AddRequest) -> None:
        if request.request_id in self.left:
            raise RequestError("in use")
        self.left[request.request_id] = request.max_tokens

    def abort(self, request: AbortRequests) -> None:
        self.left.pop(request.request_id, None)

    def has_work(self) -> bool:
        return bool(self.left)

    def time_left(self) -> float:
        return self.spare if len(self.left) == 1 else 0.0

    def step(self) -> StepOutputs:
        self.num_calls += 1
        self.done.append("step")
        if "dies" in self.left:
            raise RuntimeError("CUDA error: an illegal memory access\nsecond line")
        running = [i for i in self.left if i != "blocked" or self.released.is_set()]
        self.num_steps += bool(running)
        deltas = []
        for request_id in running:
            self.left[request_id] -= 1
            last = not self.left[request_id]
            deltas.append(SequenceDelta(request_id, 0, [5], "length" if last else None))
            if last:
                del self.left[request_id]
        return StepOutputs(deltas, self.stats())

    def stats(self) -> EngineStats:
        return EngineStats(len(self.left), 0, 0.0, 0, 0, 0, self.num_steps)

    def view(self) -> EngineView:
        return EngineView(self.stats(), [PoolView(2, 1, [0, 2])], [], [])

    def shutdown(self) -> None:
        self.left.clear()


class Peer:
    """The front end's end."""

    def __init__(self, address: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.socket.set(zmq.RCVTIMEO, 5000)
        self.socket.set(zmq.SNDTIMEO, 5000)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(address)

    def send(self, *messages: ToEngine) -> None:
        for message in messages:
            self.socket.send(encode_to_engine(message))

    def receive(self) -> FromEngine:
        return decode_from_engine(self.socket.recv())

    def outputs(self) -> StepOutputs:
        message = self.receive()
        assert isinstance(message, StepOutputs)
        return message

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # short enough for a socket's path
        yield f"ipc://{Path(place) / 's'}"


@pytest.fixture
def peer(address: str) -> Iterator[Peer]:
    peer = Peer(address)
    yield peer
    peer.close()


def test_a_wait_ends_in_time_or_when_a_message_comes(address: str, peer: Peer) -> None:
    link = Link(address)
    try:
        began = time.perf_counter()
        assert not link.wait(0.0025)
        assert 0.0025 <= time.perf_counter() - began < 0.5
        sender = threading.Timer(0.01, peer.send, [Stop()])
        sender.start()
        began = time.perf_counter()
        assert link.wait(20.0)
        assert time.perf_counter() - began < 10.0
        sender.join()
        assert link.wait(0.0), "it is there until it is received"
        assert link.receive(wait=False) == [Stop()]
        assert not link.wait(0.0)
    finally:
        link.close()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def loop(address: str, peer: Peer, script: Script) -> Iterator[threading.Thread]:
    def run() -> None:
        link = Link(address)
        try:
            Loop(cast(InProcessEngine, script), link).run()
        except RuntimeError as error:
            link.send(_cause(error))
        link.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    if thread.is_alive():
        peer.send(Stop())
    thread.join(5.0)
    assert not thread.is_alive()


def add(request_id: str, max_tokens: int = 1) -> AddRequest:
    return AddRequest(request_id, [1], SamplingParams(), 0, [], 0.0, max_tokens)


@pytest.mark.usefixtures("loop")
def test_steps_say_how_many_requests_were_received(peer: Peer, script: Script) -> None:
    peer.send(add("a", 2), add("b"))
    seen: list[SequenceDelta] = []
    while len(seen) < 3:
        outputs = peer.outputs()
        seen += outputs.deltas
    assert outputs.num_received == 2
    assert [d.token_ids for d in seen] == [[5]] * 3
    peer.send(AskView(3))
    assert peer.receive() == ViewReply(3, script.view())


@pytest.mark.usefixtures("loop")
def test_requests_that_come_while_a_step_may_wait_are_in_it(peer: Peer, script: Script) -> None:
    script.spare = 5.0
    began = time.monotonic()
    peer.send(add("a"))
    time.sleep(0.1)
    assert script.num_steps == 0
    peer.send(add("b"))
    assert [delta.request_id for delta in peer.outputs().deltas] == ["a", "b"]
    assert time.monotonic() - began < 4.0


@pytest.mark.usefixtures("loop")
def test_garbage_is_dropped_counted_and_a_broken_request_told(peer: Peer) -> None:
    for data in (b"", b"\xff" * 50, msgspec.msgpack.encode({"type": "add"})):
        peer.socket.send(data)
    broken = add("broken")
    broken.max_tokens = "many"  # type: ignore[assignment]
    peer.send(broken, add("a", 5000), add("a"))  # it still runs when the other "a" comes
    outputs = peer.outputs()
    (delta,) = outputs.deltas
    assert (delta.request_id, delta.finish_reason) == ("broken", "error")
    assert "max_tokens" in str(delta.error)
    while peer.outputs().deltas[0].finish_reason is None:
        pass
    peer.send(add("b"))
    outputs = peer.outputs()
    assert outputs.stats.num_invalid == 5
    assert outputs.num_received == 4  # those that could not run, too


@pytest.mark.usefixtures("loop")
def test_blocked_work_is_waited_for_without_turning_round(peer: Peer, script: Script) -> None:
    peer.send(add("blocked"))
    time.sleep(0.3)
    assert 1 <= script.num_calls <= 100
    assert peer.socket.poll(0) == 0  # nothing happened, nothing is said
    peer.send(add("a"))  # but a message wakes it
    assert [d.request_id for d in peer.outputs().deltas] == ["a"]
    script.released.set()
    assert [d.request_id for d in peer.outputs().deltas] == ["blocked"]


def test_an_error_ends_the_loop_with_its_cause(peer: Peer, loop: threading.Thread) -> None:
    peer.send(add("dies"))
    error = peer.receive()
    assert error == _cause(RuntimeError("CUDA error: an illegal memory access"))
    loop.join(5.0)
    assert not loop.is_alive()


def test_causes_are_one_line_in_the_words_of_the_device() -> None:
    dead = EngineDeadError("the engine stopped: make a new LLM")
    dead.__cause__ = RuntimeError("CUDA error\nmore")
    assert _cause(dead).message == "RuntimeError: CUDA error"
    memory = InsufficientMemoryError("does not fit; use a smaller model")
    assert (_cause(memory).kind, _cause(memory).message) == (
        "InsufficientMemoryError",
        "does not fit; use a smaller model",
    )
    assert _cause(KeyError()).message == "KeyError: "


def test_load_progress_is_reported_now_and_then(address: str, peer: Peer) -> None:
    link = Link(address)
    report = LoadReport(link)
    for done in range(1000):
        report(done, 1000)
    assert report.num_bytes == 999
    assert report.seconds >= 0.0
    link.close()
    sent = 0
    while peer.socket.poll(100):
        peer.receive()
        sent += 1
    assert 1 <= sent <= 10
