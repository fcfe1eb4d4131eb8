"""Answers built from what an engine says, in the cases a small model does not show."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from quire.core.errors import CheckpointError, ConfigError, EngineDeadError
from quire.structured import check

THOUGHT = "<think>\nLet me see.\n</think>\n\nIt is four."


def run(
    make_server: Callable[..., Any], scenario: Callable[[Any], Awaitable[None]], **config: Any
) -> None:
    async def main() -> None:
        server = make_server(**config)
        await server.state.start()
        await scenario(server)
        assert not server.state.open

    asyncio.run(asyncio.wait_for(main(), 20))


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def joined(every: list[dict[str, Any]], field: str) -> str:
    return "".join(
        choice["delta"].get(field) or "" for chunk in every for choice in chunk["choices"]
    )


# --- reasoning ---


@pytest.mark.parametrize("parser", ["qwen3", "deepseek_r1"])
def test_reasoning(make_server, parser: str) -> None:
    async def scenario(server: Any) -> None:
        server.engine.text = THOUGHT
        body = (await server.chat()).json()
        message = body["choices"][0]["message"]
        assert message["reasoning"] == message["reasoning_content"]
        assert message["reasoning"].strip() == "Let me see."
        assert message["content"].strip() == "It is four."
        counted = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
        assert 0 < counted < body["usage"]["completion_tokens"]
        options = {"include_usage": True}
        every = chunks(await server.chat(stream=True, stream_options=options))
        assert joined(every, "reasoning") == message["reasoning"]
        assert joined(every, "reasoning_content") == message["reasoning"]
        assert joined(every, "content") == message["content"]
        usage = every[-1]["usage"]
        assert usage["completion_tokens_details"] == {"reasoning_tokens": counted}

    run(make_server, scenario, reasoning_parser=parser)


def test_reasoning_left_out(make_server) -> None:
    async def scenario(server: Any) -> None:
        server.engine.text = THOUGHT
        fields = {"include_reasoning": False, "return_token_ids": True}
        choice = (await server.chat(**fields)).json()["choices"][0]
        assert choice["message"]["reasoning"] is None
        assert choice["token_ids"] is None
        every = chunks(await server.chat(stream=True, **fields))
        assert joined(every, "reasoning") == ""
        assert joined(every, "content").strip() == "It is four."

    run(make_server, scenario, reasoning_parser="qwen3")


def test_the_format_of_an_answer_begins_after_the_reasoning(make_server) -> None:
    async def scenario(server: Any) -> None:
        await server.chat(structured_outputs={"choice": ["a", "b"]})
        (request,) = server.engine.added
        assert request.params.structured_outputs.kind == "structural_tag"

    run(make_server, scenario, reasoning_parser="deepseek_r1")


# --- tools ---

CALLS = (
    "Well.\n<tool_call>\n"
    '{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n<tool_call>\n'
    '{"name": "f", "arguments": {"x": "</b>"}}\n</tool_call>'
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("parallel", [True, False])
def test_several_calls(make_server, parallel: bool) -> None:
    async def scenario(server: Any) -> None:
        server.engine.text = CALLS
        fields = {"tools": [TOOL], "parallel_tool_calls": parallel}
        choice = (await server.chat(**fields)).json()["choices"][0]
        calls = choice["message"]["tool_calls"]
        wanted = [{"x": 1}, {"x": "</b>"}][: 2 if parallel else 1]
        assert [json.loads(call["function"]["arguments"]) for call in calls] == wanted
        assert choice["message"]["content"].strip() == "Well."
        assert choice["finish_reason"] == "tool_calls"
        every = chunks(await server.chat(stream=True, **fields))
        arguments: dict[int, str] = {}
        for chunk in every:
            for call in chunk["choices"][0]["delta"].get("tool_calls", []):
                given = call["function"].get("arguments", "")
                arguments[call["index"]] = arguments.get(call["index"], "") + given
        assert [json.loads(arguments[i]) for i in sorted(arguments)] == wanted
        assert joined(every, "content").strip() == "Well."
        assert every[-1]["choices"][0]["finish_reason"] == "tool_calls"

    run(make_server, scenario)


def test_tool_parsers_are_counted(make_server) -> None:
    async def scenario(server: Any) -> None:
        server.engine.text = CALLS
        for stream in (False, True):
            await server.chat(tools=[TOOL], stream=stream)
        server.engine.text = "Hello"
        await server.chat(tools=[TOOL])
        await server.chat()  # no tools, no parser
        text = (await server.http.get("/metrics")).text
        lines = [
            line for line in text.splitlines() if "tool_call_parser_invocations_total{" in line
        ]
        assert sorted(float(line.rsplit(" ", 1)[1]) for line in lines) == [1, 1, 1]
        assert all('request_type="chat_completions"' in line for line in lines)

    run(make_server, scenario)


def test_grammars_are_checked_once_and_beside_the_loop(
    make_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(server: Any) -> None:
        threads = []
        original = check.why_invalid

        def watched(*arguments: Any) -> str | None:
            threads.append(threading.current_thread() is threading.main_thread())
            return original(*arguments)

        monkeypatch.setattr(check, "why_invalid", watched)
        await server.chat(response_format={"type": "json_object"})
        await server.chat(tools=[TOOL], tool_choice="required")
        await server.http.post("/v1/completions", json={"prompt": "Hi", "guided_regex": "a+"})
        assert threads == [False] * 3

    run(make_server, scenario)


@pytest.mark.parametrize("option", ["tool_call_parser", "reasoning_parser"])
def test_an_unknown_parser_is_refused_before_anything_is_loaded(make_server, option: str) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        make_server(**{option: "nonesuch"})


def test_the_reasoning_parser_is_read_from_the_template(make_server) -> None:
    template = (
        "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
        "{% if tools %}{% endif %}"
    )

    async def shown(server: Any) -> None:
        server.engine.text = THOUGHT
        message = (await server.chat()).json()["choices"][0]["message"]
        assert message["reasoning"].strip() == "Let me see."

    async def hidden(server: Any) -> None:
        server.engine.text = THOUGHT
        message = (await server.chat()).json()["choices"][0]["message"]
        assert message["content"] == THOUGHT

    run(make_server, shown, chat_template=template)
    run(make_server, hidden, chat_template=template, reasoning_parser="")


def test_a_cut_call_ends_by_length(make_server) -> None:
    async def scenario(server: Any) -> None:
        server.engine.text = CALLS
        choice = (await server.chat(tools=[TOOL], max_tokens=12)).json()["choices"][0]
        assert choice["finish_reason"] == "length"

    run(make_server, scenario)


def test_a_format_and_tools(make_server) -> None:
    async def scenario(server: Any) -> None:
        fields = {"tools": [TOOL], "response_format": {"type": "json_object"}}
        assert (await server.chat(**fields)).status_code == 200
        assert server.engine.added[0].params.structured_outputs.kind == "structural_tag"
        refused = await server.chat(tool_choice="required", **fields)
        assert refused.json()["error"]["param"] == "tool_choice"

    run(make_server, scenario)


def test_auto_without_a_known_form(make_server) -> None:
    async def scenario(server: Any) -> None:
        refused = await server.chat(tools=[TOOL])
        assert refused.status_code == 400
        assert refused.json()["error"]["message"] == (
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )

    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    run(make_server, scenario, chat_template=template)


# --- when something goes wrong ---


def test_a_failed_generation(make_server) -> None:
    async def scenario(server: Any) -> None:
        server.engine.error = "logits were not a number"
        response = await server.chat()
        assert response.status_code == 500
        assert "logits were not a number" in response.json()["error"]["message"]
        assert response.json()["error"]["type"] == "InternalServerError"
        every = chunks(await server.chat(stream=True))
        assert every[0]["choices"][0]["delta"]["role"] == "assistant"
        assert every[-1]["error"]["code"] == 500

    run(make_server, scenario)


def test_an_error_before_the_first_byte_is_a_plain_one(make_server) -> None:
    async def scenario(server: Any) -> None:
        server.engine.manual = True
        asking = asyncio.create_task(server.chat(stream=True))
        while not server.engine.added:
            await asyncio.sleep(0)
        server.engine.say(server.engine.added[0], [], "error", error="out of pages")
        response = await asking
        assert response.status_code == 500
        assert response.json()["error"]["message"] == "out of pages"

    run(make_server, scenario)


def test_the_engine_is_gone(make_server) -> None:
    async def scenario(server: Any) -> None:
        server.engine.manual = True
        asking = [asyncio.create_task(server.chat(stream=s)) for s in (True, False)]
        while len(server.engine.added) < 2:
            await asyncio.sleep(0)
        server.engine.say(server.engine.added[0], [5])
        await asyncio.sleep(0.01)
        server.engine.callbacks.on_failed(EngineDeadError("it burned down"))
        streamed, whole = await asyncio.gather(*asking)
        assert chunks(streamed)[-1]["error"]["message"] == (
            "The server had an error while processing your request."
        )
        assert whole.status_code == 500
        assert (await server.chat()).status_code == 500
        health = await server.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")

    run(make_server, scenario)


def test_health(make_server) -> None:
    async def scenario(server: Any) -> None:
        engine = server.engine
        engine.state = type(engine.state).RESTARTING
        health = await server.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "restarting")
        engine.state = type(engine.state).READY
        engine.manual = True
        asking = asyncio.create_task(server.chat())
        while not engine.added:
            await asyncio.sleep(0)
        engine.age = 121.0
        health = await server.http.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "stalled")
        engine.say(engine.added[0], [5], "stop")
        await asking
        assert (await server.http.get("/health")).content == b""

    run(make_server, scenario)


def test_while_it_loads(make_server) -> None:
    async def main() -> None:
        server = make_server()
        health = await server.http.get("/health")
        assert health.status_code == 503
        assert health.json() == {"status": "loading", "progress": "loading weights 43%"}
        refused = await server.chat()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        server.engine.load_error = CheckpointError("model.safetensors is cut short")
        with pytest.raises(CheckpointError):
            await server.state.start()
        assert "cut short" in (await server.http.get("/health")).json()["progress"]

    asyncio.run(asyncio.wait_for(main(), 20))


def test_silence_is_filled(make_server) -> None:
    async def scenario(server: Any) -> None:
        server.engine.pause = 0.1
        server.engine.text = "Hi"
        response = await server.chat(stream=True)
        assert response.text.startswith(": keep-alive\n\n")
        assert response.text.endswith("data: [DONE]\n\n")

    run(make_server, scenario, sse_keep_alive_interval=0.03)


def test_usage_may_be_forced(make_server) -> None:
    async def scenario(server: Any) -> None:
        every = chunks(await server.chat(stream=True))
        assert all("usage" in chunk for chunk in every)
        assert every[-1]["choices"] == []
        assert every[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}

    run(
        make_server,
        scenario,
        enable_force_include_usage=True,
        enable_prompt_tokens_details=True,
    )


def test_request_id_headers(make_server) -> None:
    async def scenario(server: Any) -> None:
        headers = {"X-Request-Id": "mine"}
        response = await server.http.post("/v1/completions", json={"prompt": "Hi"}, headers=headers)
        assert response.headers["x-request-id"] == "mine"
        assert response.json()["id"] == "cmpl-mine"

    run(make_server, scenario, enable_request_id_headers=True)


def test_priority_of_the_gateway_wins(make_server) -> None:
    async def scenario(server: Any) -> None:
        for headers in ({}, {"X-Vllm-Priority": "-3"}):
            await server.http.post(
                "/v1/completions", json={"prompt": "Hi", "priority": 5}, headers=headers
            )
        assert [request.priority for request in server.engine.added] == [5, -3]
        refused = await server.http.post(
            "/v1/completions", json={"prompt": "Hi"}, headers={"X-Vllm-Priority": "high"}
        )
        assert refused.status_code == 400

    run(make_server, scenario)
