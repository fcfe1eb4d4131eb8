"""/v1/messages with the real anthropic client."""

import itertools
import json
from typing import Any

import anthropic
import httpx
import pytest

SEOUL = {"role": "user", "content": "What is the capital of South Korea?"}
PARIS = {"role": "user", "content": "What is the weather in Paris?"}
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Current weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
GREEDY: dict[str, Any] = {"model": "boxed", "temperature": 0, "max_tokens": 60}


@pytest.fixture
def client(server: str, keys: tuple[str, str]) -> Any:
    """It sends its key as x-api-key."""
    return anthropic.Anthropic(base_url=server, api_key=keys[0], max_retries=0)


def create(client: Any, *messages: Any, **options: Any) -> Any:
    """What this version of the client has no argument for goes into the body as it is."""
    merged = {**GREEDY, **options}
    extra = {k: merged.pop(k) for k in ("temperature", "top_k", "top_p") if k in merged}
    return client.messages.create(messages=list(messages), extra_body=extra, **merged)


def test_a_text(client: Any) -> None:
    message = create(client, SEOUL)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "boxed")
    (block,) = message.content
    assert block.type == "text"
    assert "Seoul" in block.text
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens > 10
    assert usage.output_tokens > 5
    assert message._request_id == message.id


def test_why_it_stopped(client: Any) -> None:
    short = create(client, SEOUL, max_tokens=3)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stopped = create(client, SEOUL, stop_sequences=["Korea", "never"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Korea")
    assert stopped.content[0].text.endswith("South ")


def test_system_and_blocks(client: Any) -> None:
    named = [
        {"role": "user", "content": [{"type": "text", "text": "My name is Mina."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Nice to meet you, Mina."}]},
        {"role": "user", "content": "What is my name?"},
    ]
    for system in ("You are kind.", [{"type": "text", "text": "You are kind."}]):
        message = create(client, *named, system=system)
        assert "Mina" in message.content[0].text


def test_going_on_with_the_last_message(client: Any) -> None:
    message = create(client, SEOUL, {"role": "assistant", "content": "The capital of South"})
    assert message.content[0].text.startswith(" Korea is Seoul")


def test_streamed_events_in_order(client: Any) -> None:
    whole = create(client, SEOUL)
    events = list(create(client, SEOUL, stream=True))
    kinds = [kind for kind, _ in itertools.groupby(event.type for event in events)]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0].message.content == []
    assert events[0].message.stop_reason is None
    assert events[0].message.usage.input_tokens > 10
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert {delta.type for delta in deltas} == {"text_delta"}
    assert len(deltas) > 3
    assert "".join(delta.text for delta in deltas) == whole.content[0].text
    ending = next(event for event in events if event.type == "message_delta")
    assert ending.delta.stop_reason == "end_turn"
    assert ending.usage.output_tokens == whole.usage.output_tokens


def test_framing(http: httpx.Client) -> None:
    answer = http.post("/v1/messages", json={"messages": [SEOUL], "stream": True, **GREEDY})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    names = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        names.append(name.removeprefix("event: "))
        assert json.loads(data.removeprefix("data: "))["type"] == names[-1]
    assert names[:2] == ["message_start", "ping"]
    assert names[-1] == "message_stop"


@pytest.mark.parametrize(
    "choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}]
)
def test_a_tool_call_and_its_result(client: Any, choice: Any) -> None:
    first = create(client, PARIS, tools=[WEATHER], tool_choice=choice)
    (block,) = first.content
    assert (block.type, block.name, block.input) == ("tool_use", "get_weather", {"city": "Paris"})
    assert first.stop_reason == "tool_use"
    result = {
        "type": "tool_result",
        "tool_use_id": block.id,
        "content": [{"type": "text", "text": '{"weather": "sunny", "temperature": 21}'}],
    }
    second = create(
        client,
        PARIS,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
        tools=[WEATHER],
    )
    assert second.stop_reason == "end_turn"
    assert second.content[0].text


def test_a_streamed_tool_call(client: Any) -> None:
    events = list(create(client, PARIS, tools=[WEATHER], stream=True))
    start = next(event for event in events if event.type == "content_block_start")
    assert (start.content_block.type, start.content_block.name) == ("tool_use", "get_weather")
    assert start.content_block.input == {}
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert {delta.type for delta in deltas} == {"input_json_delta"}
    assert json.loads("".join(delta.partial_json for delta in deltas)) == {"city": "Paris"}
    ending = next(event for event in events if event.type == "message_delta")
    assert ending.delta.stop_reason == "tool_use"


def test_the_clients_own_stream_helper(client: Any) -> None:
    extra = {"temperature": 0}
    with client.messages.stream(
        model="boxed", max_tokens=60, messages=[PARIS], tools=[WEATHER], extra_body=extra
    ) as stream:
        final = stream.get_final_message()
    assert final.content[0].input == {"city": "Paris"}
    assert final.stop_reason == "tool_use"


def test_count_tokens(client: Any) -> None:
    def count(**more: Any) -> int:
        tokens: int = client.messages.count_tokens(
            model="boxed", messages=[SEOUL], **more
        ).input_tokens
        return tokens

    usage = create(client, SEOUL).usage
    assert count() == usage.input_tokens + usage.cache_read_input_tokens
    assert count(system="You are kind.") > count()
    assert count(tools=[WEATHER]) > count() + 20


@pytest.mark.parametrize("field", ["output_config", "output_format", "response_format"])
def test_the_form_of_the_answer(http: httpx.Client, field: str) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}, "certain": {"type": "boolean"}},
        "required": ["answer", "certain"],
        "additionalProperties": False,
    }
    question = {"role": "user", "content": "Is Seoul in Korea?"}
    form: dict[str, Any] = {"type": "json_schema", "schema": schema}
    if field == "output_config":
        form = {"format": form}
    elif field == "response_format":  # chat's own way of saying it
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = {"messages": [question], field: form, **GREEDY}
    answer = http.post("/v1/messages", json=body).json()
    verdict = json.loads(answer["content"][0]["text"])
    assert set(verdict) == {"answer", "certain"}
    assert verdict["answer"] in ("yes", "no")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"max_tokens": None}, "body.max_tokens"),
        ({"max_tokens": 0}, "body.max_tokens"),
        ({"max_tokens": 10_000}, "max_model_len"),
        ({"messages": []}, "body.messages"),
        ({"messages": [{"role": "clown", "content": "x"}]}, "body.messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "'image'"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]}, "tool_use"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "needs a name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "x"),
        ({"tool_choice": {"type": "any"}}, "`tools` must be set"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, "`tools` must be set"),
        ({"thinking": {"type": "deep"}}, "body.thinking"),
        ({"stop_sequences": ["a"] * 5}, "at most 4"),
        ({"structured_outputs": {"regex": "("}}, "unclosed group"),
        ({"use_beam_search": True}, "use_beam_search is not supported"),
        ({"timeout": 0}, "body.timeout"),
        ({"temperature": "hot"}, "body.temperature"),
        ({"temperature": 5}, "temperature must be in"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config"),
        ({"messages": [{"role": "user", "content": "x " * 3000}]}, "maximum context length"),
    ],
)
def test_bad_bodies(http: httpx.Client, body: dict[str, Any], message: str) -> None:
    answer = http.post("/v1/messages", json={"messages": [SEOUL], **GREEDY, **body})
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert message in told["error"]["message"]


def test_a_deadline(http: httpx.Client) -> None:
    body = {"messages": [SEOUL], "ignore_eos": True, **GREEDY, "max_tokens": 480, "timeout": 0.2}
    late = http.post("/v1/messages", json=body)
    assert late.status_code == 504
    assert late.json()["error"]["type"] == "timeout_error"
    events = http.post("/v1/messages", json={**body, "stream": True}).text.strip().split("\n\n")
    name, data = events[-1].split("\n")
    assert name == "event: error"
    error = json.loads(data.removeprefix("data: "))["error"]
    assert error["type"] == "timeout_error"
    assert "deadline passed after 0.2 s" in error["message"]
    assert any("text_delta" in event for event in events)


def test_thoughts(http: httpx.Client) -> None:
    """Earlier ones are taken; a model without them has none to show."""
    turns = [
        {"role": "user", "content": "My name is Mina."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Polite.", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Nice to meet you, Mina."},
            ],
        },
        {"role": "user", "content": "What is my name?"},
    ]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    answer = http.post("/v1/messages", json={"messages": turns, "thinking": thinking, **GREEDY})
    (block,) = answer.json()["content"]
    assert "Mina" in block["text"]


def test_errors_as_the_client_knows_them(client: Any, server: str) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        create(client, SEOUL, model="claude")
    assert missing.value.body["error"]["type"] == "not_found_error"
    stranger = anthropic.Anthropic(base_url=server, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        create(stranger, SEOUL)
    assert unknown.value.body == {"error": "Unauthorized"}  # as everywhere


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"{", 400, "invalid_request_error"),
        (b'"%s"' % (b"x" * (17 << 20)), 413, "request_too_large"),
    ],
)
def test_errors_before_any_handler(
    http: httpx.Client, content: bytes, status: int, kind: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = http.post("/v1/messages", content=content, headers=headers)
    assert answer.status_code == status
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", kind)
