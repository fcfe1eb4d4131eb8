"""Updates reach the response that waits for them, merged where it is slow, and no other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from quire.core.errors import EngineDeadError, RequestError
from quire.core.messages import AbortRequests, SequenceDelta, StepOutputs
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend_request import TrackedSequence
from quire.server.dispatch import Dispatcher, Generation, Mailbox


def run(make_server: Callable[..., Any], scenario: Callable[[Any, Dispatcher], Awaitable[None]]):
    async def main() -> None:
        server = make_server()
        server.engine.manual = True
        await server.state.start()
        await scenario(server.engine, server.state.ready().dispatcher)

    asyncio.run(asyncio.wait_for(main(), 10))


def submit(
    dispatcher: Dispatcher,
    name: str = "a",
    params: SamplingParams | None = None,
    mailbox: Mailbox | None = None,
) -> Generation:
    request = dispatcher.tracker.prepare("Hi", params, request_id=name)
    return dispatcher.start(request, None, mailbox or Mailbox())


async def finished(generation: Generation) -> list[TrackedSequence]:
    while not generation.request.finished:
        await generation.mailbox.take()
    return generation.request.sequences


def test_updates_come_one_by_one_or_merged(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        generation = submit(dispatcher, params=SamplingParams(max_tokens=9))
        ids = engine.tokenizer.encode("one two three four")
        take = generation.mailbox.take
        engine.say(engine.added[0], ids[:1])
        (update,) = (await take()).values()
        assert update.token_ids == ids[:1]
        for token_id in ids[1:]:  # nobody reads meanwhile
            engine.say(engine.added[0], [token_id])
        (update,) = (await take()).values()
        assert update.token_ids == ids[1:]
        assert update.text == "one two three four".removeprefix(engine.tokenizer.decode(ids[:1]))
        engine.say(engine.added[0], [], "length")
        assert (await take())[0].sequence.finish_reason == "length"
        assert dispatcher.num_unfinished == 0

    run(make_server, scenario)


def test_first_tokens_go_out_first(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        params, order = SamplingParams(max_tokens=9), []

        async def read(generation: Generation) -> None:
            await generation.mailbox.take()
            order.append(generation.request.request_id)

        running = [submit(dispatcher, name, params) for name in "ab"]
        for added in engine.added:
            engine.say(added, [5])
        for generation in running:
            await generation.mailbox.take()
        generations = [*running, submit(dispatcher, "c", params)]
        reading = [asyncio.create_task(read(generation)) for generation in generations]
        await asyncio.sleep(0)
        deltas = [
            SequenceDelta(generation.request.request_id, 0, [6]) for generation in generations
        ]
        dispatcher.on_outputs(StepOutputs(deltas, engine.stats))
        await asyncio.gather(*reading)
        assert order == ["c", "a", "b"]

    run(make_server, scenario)


def test_sequences_that_end_in_one_step(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        params = SamplingParams(n=3, max_tokens=9)
        generation = submit(dispatcher, params=params)
        waiting = asyncio.create_task(finished(generation))
        engine.say(engine.added[0], [5])
        await asyncio.sleep(0)
        engine.say(engine.added[0], [6], "length")
        assert [s.token_ids for s in await waiting] == [[5, 6]] * 3
        assert dispatcher.num_unfinished == 0

    run(make_server, scenario)


def test_without_streaming_only_the_end_wakes(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        mailbox = Mailbox(streaming=False)
        submit(dispatcher, params=SamplingParams(max_tokens=9), mailbox=mailbox)
        waiting = asyncio.create_task(mailbox.take())
        for _ in range(3):
            engine.say(engine.added[0], [5])
            await asyncio.sleep(0)
        assert not waiting.done()
        engine.say(engine.added[0], [5], "length")
        assert await waiting == {}

    run(make_server, scenario)


def test_cancelling_tells_the_engine_once(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        generation = submit(dispatcher)
        dispatcher.cancel(generation)
        dispatcher.cancel(generation)
        assert engine.aborted == [AbortRequests("a")]
        engine.say(engine.added[0], [5])  # it had not heard
        assert dispatcher.num_unfinished == 0

    run(make_server, scenario)


def test_a_stop_string_frees_the_sequence(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        params = SamplingParams(max_tokens=9, stop=["two"])
        generation = submit(dispatcher, params=params)
        engine.say(engine.added[0], engine.tokenizer.encode("one two"))
        assert (await finished(generation))[0].text.strip() == "one"
        assert engine.aborted == [AbortRequests("a", [0])]

    run(make_server, scenario)


def test_the_same_id_twice(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        for _ in range(3):
            submit(dispatcher)
        assert [request.request_id for request in engine.added] == ["a", "a~2", "a~3"]
        engine.say(engine.added[1], [5], "length")
        assert dispatcher.num_unfinished == 2

    run(make_server, scenario)


def test_what_a_fresh_engine_is_told(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        submit(dispatcher, params=SamplingParams(max_tokens=9))
        engine.say(engine.added[0], [5])
        (message,) = engine.callbacks.on_restart()
        assert message.delivered == [[5]]

    run(make_server, scenario)


def test_the_end_of_the_engine_reaches_everybody(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        waiting = [asyncio.create_task(finished(submit(dispatcher, str(i)))) for i in range(3)]
        await asyncio.sleep(0)
        dispatcher.fail_all(EngineDeadError("gone"))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(result) for result in results] == ["gone"] * 3
        assert dispatcher.num_unfinished == 0

    run(make_server, scenario)


def test_nothing_is_sent_of_what_is_refused(make_server) -> None:
    async def scenario(engine: Any, dispatcher: Dispatcher) -> None:
        with pytest.raises(RequestError):
            submit(dispatcher, params=SamplingParams(logprobs=99))
        assert engine.added == []
        assert dispatcher.num_unfinished == 0

    run(make_server, scenario)
