"""The engine in a process of its own: the same tokens, whatever happens to the process.

Real processes and the model in the box. Every test must leave neither a process nor a file.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import uvloop
import zmq

import quire.boxed
from quire.core.config import EngineConfig, engine_config
from quire.core.errors import CheckpointError, EngineDeadError, ModelNotFoundError
from quire.core.messages import AbortRequests, AddRequest, StepOutputs
from quire.core.sampling_params import SamplingParams
from quire.engine.client import InProcessEngine
from quire.engine.frontend import RequestTracker
from quire.engine.frontend_request import TrackedRequest
from quire.engine.remote import EngineState, RemoteEngine
from quire.engine.supervisor import RestartPolicy
from quire.text.load import load_tokenizer

BOXED = Path(quire.boxed.__path__[0])
LENGTH = 120
PROMPTS = (
    "What is the capital of South Korea?",
    "Count: 1, 2, 3,",
    "Once upon a time",
    "대한민국의 수도는",
    "def main():",
    "The quick brown fox",
)
# Greedy, seeded and unseeded in turn; one kind has two sequences.
KINDS: tuple[dict[str, Any], ...] = ({"temperature": 0.0}, {"seed": 7}, {"n": 2})
QUICK = RestartPolicy(first_delay=0.01, max_failed_starts=2)
Tokens = dict[str, list[list[int]]]


def config(**options: object) -> EngineConfig:
    return engine_config(**{"num_gpu_blocks_override": 1024, "dtype": "float32", **options})


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """In this process and the engine's: both must add up in the same order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference() -> Iterator[InProcessEngine]:
    engine = InProcessEngine(config(), progress=False)
    yield engine
    engine.shutdown()


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:  # after tmp_path, which uses tempdir, too
    """No process, no zombie, no socket."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/tmp") as place:
        patch.setattr(tempfile, "tempdir", place)
        yield
        assert list(Path(place).iterdir()) == []
    assert [p for p in psutil.Process().children(recursive=True) if p.pid not in before] == []


class FrontEnd:
    """A tracker in front of a remote engine: what a server is, without HTTP."""

    def __init__(self, reference: InProcessEngine, options: EngineConfig, **supervision: Any):
        self.tracker = new_tracker(reference)
        self.requests: list[TrackedRequest] = []
        self.num_outputs = 0
        self.news = asyncio.Event()
        self.on_restart: Callable[[], None] = lambda: None
        self.engine = RemoteEngine(
            options,
            on_outputs=self._on_outputs,
            on_restart=self._resume,
            **{"policy": QUICK, **supervision},
        )

    def _on_outputs(self, outputs: StepOutputs) -> None:
        self.num_outputs += 1
        for abort in self.tracker.process(outputs.deltas).aborts:
            self.engine.abort(abort)
        self.news.set()

    def _resume(self) -> list[AddRequest | AbortRequests]:
        self.on_restart()
        return self.tracker.resume()

    def submit(self, count: int = 6, length: int = LENGTH) -> None:
        for request in prepare(self.tracker, count, length, len(self.requests)):
            self.requests.append(request)
            self.engine.add(self.tracker.start(request))

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def finished(self) -> Tokens:
        await self.until(lambda: not self.tracker.num_unfinished)
        return tokens(self.requests)

    def shortest(self) -> int:
        return min(len(s.token_ids) for r in self.requests for s in r.sequences)


def new_tracker(reference: InProcessEngine) -> RequestTracker:
    return RequestTracker(load_tokenizer(BOXED), reference.model_info)


def prepare(
    tracker: RequestTracker, count: int, length: int, start: int = 0
) -> list[TrackedRequest]:
    return [
        tracker.prepare(
            PROMPTS[number % len(PROMPTS)],
            SamplingParams(max_tokens=length, ignore_eos=True, **KINDS[number % len(KINDS)]),
            request_id=str(number),
        )
        for number in range(start, start + count)
    ]


def tokens(requests: list[TrackedRequest]) -> Tokens:
    return {r.request_id: [s.token_ids for s in r.sequences] for r in requests}


@pytest.fixture(scope="module")
def undisturbed(reference: InProcessEngine) -> Tokens:
    """What an engine in this process gives."""
    tracker = new_tracker(reference)
    requests = prepare(tracker, 9, LENGTH)
    for request in requests:
        reference.add(tracker.start(request))
    while reference.has_work():
        tracker.process(reference.step().deltas)
    return tokens(requests)


def first(count: int, expected: Tokens) -> Tokens:
    return {str(number): expected[str(number)] for number in range(count)}


def run(scenario: Coroutine[Any, Any, None], *, fast_loop: bool = True) -> None:
    (uvloop.run if fast_loop else asyncio.run)(scenario)


async def end(engine: RemoteEngine) -> None:
    await engine.shutdown(5.0)
    assert engine.state is EngineState.STOPPED


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def test_same_tokens_as_in_one_process_and_idle_costs_nothing(
    reference: InProcessEngine, undisturbed: Tokens
) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config())
        engine = front.engine
        began = time.perf_counter()
        await engine.start()
        assert time.perf_counter() - began < 0.2
        front.submit()  # before there is an engine
        assert engine.last_step_age() is None
        states = {engine.state}
        phases = {engine.progress.phase}
        while engine.state is not EngineState.READY:
            states.add(engine.state)
            phases.add(engine.progress.phase)
            await asyncio.sleep(0.005)
        assert states == {EngineState.STARTING, EngineState.LOADING}
        assert phases >= {"starting", "importing libraries", "loading weights"}
        assert await engine.wait_ready() == engine.model_info
        assert engine.last_step_age() is not None
        assert await front.finished() == first(6, undisturbed)
        assert engine.last_step_age() is None

        stats = (await engine.view()).stats
        assert (stats.num_running, stats.num_waiting) == (0, 0)
        assert stats.num_steps >= LENGTH
        assert engine.stats is not None
        assert engine.stats.num_steps == stats.num_steps

        assert engine.pid is not None
        pids = (engine.pid, os.getpid())
        before = [cpu_seconds(pid) for pid in pids]
        await asyncio.sleep(2.0)
        used = [cpu_seconds(pid) - was for pid, was in zip(pids, before)]
        assert max(used) < 0.02, f"engine and front end used {used} s of 2 s"
        await end(engine)
        with pytest.raises(EngineDeadError, match="shut down"):
            front.submit(1)

    run(scenario())


def test_a_front_end_that_was_busy_takes_all_steps_at_once(
    reference: InProcessEngine, undisturbed: Tokens
) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config())
        await front.engine.start()
        front.submit()
        await front.until(lambda: front.num_outputs > 0)
        before = front.num_outputs
        time.sleep(0.5)  # the loop stands still, the engine does not
        for _ in range(5):
            await asyncio.sleep(0)
        assert front.num_outputs > before + 10, "one step a turn of the loop"
        assert await front.finished() == first(6, undisturbed)
        await end(front.engine)

    run(scenario())


def test_kill_9_changes_no_token(reference: InProcessEngine, undisturbed: Tokens) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config())
        engine = front.engine
        await engine.start()
        front.submit()
        for kills, length in enumerate((20, 50, 20), 1):
            await front.until(lambda length=length: front.shortest() >= length)
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            while engine.state is EngineState.READY:
                await asyncio.sleep(0.001)
            assert engine.state is EngineState.RESTARTING
            if kills == 2:
                front.submit(3)  # while there is none
                with pytest.raises(EngineDeadError, match="restarting"):
                    await engine.view()
            await engine.wait_ready()
            assert engine.num_restarts == kills
        assert await front.finished() == undisturbed
        assert engine.num_resumed == 6 + 6 + 9
        assert engine.num_invalid == 0
        await end(engine)

    run(scenario())


def test_what_stops_it_at_the_start_is_told_in_its_own_words(
    reference: InProcessEngine, tmp_path: Path
) -> None:
    for file in BOXED.iterdir():
        if file.suffix in (".json", ".safetensors"):
            (tmp_path / file.name).write_bytes(file.read_bytes()[:100_000])

    async def scenario(path: str, error: type[Exception], words: str) -> None:
        failures: list[Exception] = []
        front = FrontEnd(reference, config(model=path), on_failed=failures.append)
        await front.engine.start()
        front.submit(1)
        with pytest.raises(error, match=words) as caught:
            await front.engine.wait_ready()
        assert "\n" not in str(caught.value)
        assert front.engine.state is EngineState.FAILED
        assert front.engine.num_restarts == 0  # it would end the same way again
        assert [str(f) for f in failures] == [str(caught.value)]
        # Nobody waits for ever.
        (request,) = front.requests
        assert request.finished
        assert request.sequences[0].error == str(caught.value)
        with pytest.raises(EngineDeadError, match=words):
            front.submit(1)
        await front.engine.shutdown(1.0)

    run(scenario("/no/such/folder", ModelNotFoundError, "/no/such/folder"))
    run(scenario(str(tmp_path), CheckpointError, "model.safetensors"))


def test_a_process_that_never_starts_is_given_up(
    reference: InProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config())
        monkeypatch.setattr(sys, "executable", "/bin/false")
        await front.engine.start()
        with pytest.raises(EngineDeadError, match=r"could not be started.*exit status 1"):
            await front.engine.wait_ready()
        assert front.engine.num_restarts == QUICK.max_failed_starts - 1
        await front.engine.shutdown(1.0)

    run(scenario())


def test_a_stuck_engine_is_replaced(reference: InProcessEngine, undisturbed: Tokens) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config(), stall_timeout=0.5)
        engine = front.engine
        await engine.start()
        front.submit(3)
        await front.until(lambda: front.shortest() >= 20)
        assert engine.pid is not None
        stuck = engine.pid
        os.kill(stuck, signal.SIGSTOP)
        stopped = time.perf_counter()
        call = asyncio.create_task(engine.view())
        while engine.state is EngineState.READY:
            await asyncio.sleep(0.01)
        assert 0.4 < time.perf_counter() - stopped < 5.0
        with pytest.raises(EngineDeadError, match="no step has finished for"):
            await call
        assert await front.finished() == first(3, undisturbed)
        assert engine.pid != stuck
        assert engine.num_restarts == 1
        # One that is idle is not stuck.
        await asyncio.sleep(0.8)
        assert engine.num_restarts == 1
        # Nothing waits for one that does not answer.
        os.kill(engine.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.1 s"):
            await engine.view(timeout=0.1)
        began = time.perf_counter()
        await engine.shutdown(0.2)
        assert time.perf_counter() - began < 2.0
        assert engine.state is EngineState.STOPPED

    run(scenario(), fast_loop=False)


def test_a_request_that_kills_every_engine_ends_alone(
    reference: InProcessEngine, undisturbed: Tokens
) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config())
        engine = front.engine

        def kill() -> None:
            """Whoever is submitted to it, this engine dies before it gives a token."""
            if front.requests[0].num_unfinished:
                assert engine.pid is not None
                os.kill(engine.pid, signal.SIGKILL)

        front.on_restart = kill
        await engine.start()
        await engine.wait_ready()
        front.submit(1)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        await front.until(lambda: front.requests[0].finished)
        (sequence,) = front.requests[0].sequences
        assert sequence.finish_reason == "error"
        assert sequence.error == "the engine died 3 times while running this request"
        front.on_restart = lambda: None
        front.submit(2)
        assert await front.finished() | {"0": []} == first(3, undisturbed) | {"0": []}
        await end(engine)

    run(scenario())


def test_garbage_on_the_socket_is_dropped_and_counted(
    reference: InProcessEngine, undisturbed: Tokens
) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config())
        engine = front.engine
        await engine.start()
        await engine.wait_ready()
        front.submit()
        (directory,) = Path(tempfile.gettempdir()).iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        (path,) = (path for path in directory.iterdir() if path.is_socket())
        context = zmq.Context()
        stranger = context.socket(zmq.PAIR)
        stranger.connect(f"ipc://{path}")
        for number in range(20):
            stranger.send(b"\xff" * number)
        for number in range(20):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(str(path))
                raw.sendall(os.urandom(100 * number))
        await asyncio.sleep(0.3)
        stranger.close(linger=0)
        context.term()
        assert await front.finished() == first(6, undisturbed)
        assert engine.num_invalid >= 21
        assert engine.num_restarts == 0
        await end(engine)

    run(scenario())


def test_shutdown_while_it_loads_and_before_it_starts(reference: InProcessEngine) -> None:
    async def scenario() -> None:
        front = FrontEnd(reference, config())
        await front.engine.start()
        ready = asyncio.create_task(front.engine.wait_ready())
        await asyncio.sleep(0.3)
        began = time.perf_counter()
        await end(front.engine)
        assert time.perf_counter() - began < 1.0
        with pytest.raises(EngineDeadError, match="shut down"):
            await ready
        await end(front.engine)  # again
        await end(FrontEnd(reference, config()).engine)

    run(scenario())


def test_it_does_not_outlive_its_front_end() -> None:
    code = """
import asyncio, os
from quire.core.config import engine_config
from quire.engine.remote import RemoteEngine
async def main():
    engine = RemoteEngine(engine_config(), on_outputs=print, on_restart=list)
    await engine.start()
    while not engine.pid: await asyncio.sleep(0.01)
    print(engine.pid, flush=True)
    await engine.wait_ready()
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""

    async def scenario(wait_for_ready: bool) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        child = psutil.Process(int(await process.stdout.readline()))
        if wait_for_ready:
            assert await process.stdout.readline() == b"ready\n"
            # A signal meant for the whole service is the front end's to act on.
            child.send_signal(signal.SIGTERM)
            child.send_signal(signal.SIGINT)
            await asyncio.sleep(0.2)
            assert child.is_running()
        process.kill()
        await process.wait()
        began = time.perf_counter()
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            assert time.perf_counter() - began < 5.0
            await asyncio.sleep(0.01)

    run(scenario(True))
    run(scenario(False))
    for left in Path(tempfile.gettempdir()).iterdir():  # kill -9 lets nobody tidy up
        for file in left.iterdir():
            file.unlink()
        left.rmdir()
