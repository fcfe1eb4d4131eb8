"""/v1/responses with the real openai client."""

import itertools
import json
import time
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

SEOUL = "What is the capital of South Korea?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Current weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
GREEDY: dict[str, Any] = {"model": "boxed", "temperature": 0}


@pytest.fixture
def client(server: str, keys: tuple[str, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server}/v1", api_key=keys[0], max_retries=0)


@pytest.fixture
def stranger(server: str, keys: tuple[str, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server}/v1", api_key=keys[1], max_retries=0)


def test_a_text(client: openai.OpenAI) -> None:
    response = client.responses.create(input=SEOUL, max_output_tokens=40, **GREEDY)
    assert "Seoul" in response.output_text
    assert response.status == "completed"
    assert response.object == "response"
    assert response.id.startswith("resp_")
    assert response.model == "boxed"
    assert response.error is None
    assert response.incomplete_details is None
    assert response.temperature == 0
    assert response.max_output_tokens == 40
    (message,) = response.output
    assert message.type == "message"
    assert message.role == "assistant"
    assert message.status == "completed"
    usage = response.usage
    assert usage is not None
    assert usage.input_tokens + usage.output_tokens == usage.total_tokens
    assert usage.output_tokens_details.reasoning_tokens == 0


def test_cut_short(client: openai.OpenAI) -> None:
    response = client.responses.create(input=SEOUL, max_output_tokens=3, **GREEDY)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"  # type: ignore[union-attr]
    assert response.usage is not None
    assert response.usage.output_tokens == 3


def test_instructions_and_roles(client: openai.OpenAI) -> None:
    response = client.responses.create(
        instructions="You are kind.",
        input=[
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [{"type": "input_text", "text": "My name is Mina."}]},
            {"role": "assistant", "content": "Nice to meet you, Mina."},
            {"role": "user", "content": "What is my name?"},
        ],
        **GREEDY,
    )
    assert "Mina" in response.output_text
    assert response.instructions == "You are kind."


def test_streamed_events_in_order(client: openai.OpenAI) -> None:
    whole = client.responses.create(input=SEOUL, **GREEDY)
    events = list(client.responses.create(input=SEOUL, stream=True, **GREEDY))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [kind for kind, _ in itertools.groupby(event.type for event in events)]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text
    assert sum(e.type == "response.output_text.delta" for e in events) > 3
    item = events[2].item.id  # type: ignore[union-attr]
    assert {e.item_id for e in events if hasattr(e, "item_id")} == {item}
    done, last = events[-4], events[-1]
    assert done.type == "response.output_text.done"
    assert done.text == text
    assert last.type == "response.completed"
    assert last.response.output_text == text
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == whole.usage.output_tokens  # type: ignore[union-attr]
    assert events[0].response.status == "in_progress"  # type: ignore[union-attr]


def test_the_clients_own_stream_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(input=SEOUL, **GREEDY) as stream:
        texts = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "Seoul" in final.output_text
    assert texts[-1] == final.output_text


def test_framing(http: httpx.Client) -> None:
    answer = http.post("/v1/responses", json={"input": SEOUL, "stream": True, "temperature": 0})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        assert isinstance(body["sequence_number"], int)


def test_log_probabilities(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "input": SEOUL,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        **GREEDY,
    }
    response = client.responses.create(**options)
    (part,) = response.output[0].content  # type: ignore[union-attr]
    assert part.logprobs is not None
    assert "".join(entry.token for entry in part.logprobs).startswith(response.output_text)
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)
    deltas = [
        event
        for event in client.responses.create(stream=True, **options)
        if event.type == "response.output_text.delta"
    ]
    streamed = [entry.token for event in deltas for entry in event.logprobs]
    assert streamed == [entry.token for entry in part.logprobs][: len(streamed)]
    assert len(streamed) >= len(part.logprobs) - 1  # the end-of-turn token adds no text


# --- tools ---


def call_of(response: Any) -> Any:
    (call,) = [item for item in response.output if item.type == "function_call"]
    return call


@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "name": "get_weather"}]
)
def test_a_tool_call_and_its_result(client: openai.OpenAI, choice: Any) -> None:
    question = {"role": "user", "content": "What is the weather in Paris?"}
    first = client.responses.create(input=[question], tools=[WEATHER], tool_choice=choice, **GREEDY)
    call = call_of(first)
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Paris"}
    assert first.status == "completed"
    assert first.tools[0].name == "get_weather"  # type: ignore[union-attr]
    result = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": '{"weather": "sunny", "temperature": 21}',
    }
    by_items = client.responses.create(
        input=[question, *first.output, result], tools=[WEATHER], **GREEDY
    )
    by_store = client.responses.create(
        input=[result], previous_response_id=first.id, tools=[WEATHER], **GREEDY
    )
    assert by_items.output_text == by_store.output_text != ""


def test_a_streamed_tool_call(client: openai.OpenAI) -> None:
    events = list(
        client.responses.create(
            input="What is the weather in Paris?", tools=[WEATHER], stream=True, **GREEDY
        )
    )
    kinds = [kind for kind, _ in itertools.groupby(event.type for event in events)]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    arguments = "".join(deltas)
    assert json.loads(arguments) == {"city": "Paris"}
    final = events[-1].response  # type: ignore[union-attr]
    assert call_of(final).arguments == arguments
    assert events[2].item.status == "in_progress"  # type: ignore[union-attr]


# --- the form of the text ---


class Verdict(BaseModel):
    answer: Literal["yes", "no", "perhaps"]
    certain: bool


def test_parse_with_a_model(client: openai.OpenAI) -> None:
    response = client.responses.parse(
        input="Is Seoul in Korea?", text_format=Verdict, max_output_tokens=60, **GREEDY
    )
    assert isinstance(response.output_parsed, Verdict)
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"


# --- what is kept ---


def test_going_on_from_a_response(client: openai.OpenAI) -> None:
    first = client.responses.create(input="My name is Mina.", **GREEDY)
    second = client.responses.create(
        input="What is my name?", previous_response_id=first.id, **GREEDY
    )
    assert "Mina" in second.output_text
    assert second.previous_response_id == first.id
    alone = client.responses.create(input="What is my name?", **GREEDY)
    assert "Mina" not in alone.output_text


def test_a_streamed_response_is_kept_too(client: openai.OpenAI) -> None:
    *_, last = client.responses.create(input="My name is Mina.", stream=True, **GREEDY)
    assert last.type == "response.completed"
    kept = client.responses.retrieve(last.response.id)
    assert kept.output_text == last.response.output_text
    second = client.responses.create(
        input="What is my name?", previous_response_id=kept.id, **GREEDY
    )
    assert "Mina" in second.output_text


def test_get_and_delete(client: openai.OpenAI) -> None:
    made = client.responses.create(input=SEOUL, metadata={"a": "b"}, **GREEDY)
    kept = client.responses.retrieve(made.id)
    assert kept.to_dict() == made.to_dict()
    assert kept.metadata == {"a": "b"}
    items = client.responses.input_items.list(made.id).data
    assert [item.role for item in items] == ["user"]  # type: ignore[union-attr]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(input="x", previous_response_id=made.id, **GREEDY)


def test_nobody_else_sees_it(client: openai.OpenAI, stranger: openai.OpenAI) -> None:
    made = client.responses.create(input=SEOUL, **GREEDY)
    for forbidden in (
        lambda: stranger.responses.retrieve(made.id),
        lambda: stranger.responses.delete(made.id),
        lambda: stranger.responses.create(input="x", previous_response_id=made.id, **GREEDY),
    ):
        with pytest.raises(openai.NotFoundError):
            forbidden()
    assert client.responses.retrieve(made.id).id == made.id


def test_what_is_not_kept(client: openai.OpenAI) -> None:
    made = client.responses.create(input=SEOUL, store=False, **GREEDY)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve(made.id)


def test_the_oldest_gives_way(client: openai.OpenAI) -> None:
    """The server of these tests keeps six."""
    names = [
        client.responses.create(input="Hi", max_output_tokens=1, **GREEDY).id for _ in range(7)
    ]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(names[0])
    assert client.responses.retrieve(names[1]).id == names[1]


# --- in the background ---


def poll(client: openai.OpenAI, name: str) -> Any:
    deadline = time.monotonic() + 20
    while True:
        response = client.responses.retrieve(name)
        if response.status not in ("queued", "in_progress"):
            return response
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_background(client: openai.OpenAI) -> None:
    started = client.responses.create(input=SEOUL, background=True, **GREEDY)
    assert started.status == "queued"
    assert started.output == []
    done = poll(client, started.id)
    assert done.status == "completed"
    assert "Seoul" in done.output_text
    assert client.responses.cancel(started.id).status == "completed"


def test_cancel(client: openai.OpenAI, http: httpx.Client) -> None:
    started = client.responses.create(
        input=SEOUL,
        background=True,
        max_output_tokens=450,
        extra_body={"ignore_eos": True},
        **GREEDY,
    )
    assert client.responses.cancel(started.id).status == "cancelled"
    time.sleep(0.3)
    assert client.responses.retrieve(started.id).status == "cancelled"
    plain = client.responses.create(input=SEOUL, **GREEDY)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(plain.id)
    assert http.get("/load").json() == {"server_load": 0}


# --- what is refused ---


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "body.input"),
        ({"input": []}, "input is empty"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"input": [{"role": "clown", "content": "x"}]}, "needs a role of"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_image"),
        ({"input": [{"role": "user"}]}, "needs a text or a list of parts"),
        ({"input": "x", "max_output_tokens": 0}, "body.max_output_tokens"),
        ({"input": "x", "temperature": 3}, "temperature"),
        ({"input": "x", "reasoning": {"effort": "much"}}, "body.reasoning_effort"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "web_search"),
        ({"input": "x", "tools": [{"type": "function"}]}, "has no name"),
        ({"input": "x", "tool_choice": "required"}, "`tools` must be set"),
        ({"input": "x", "tool_choice": {"type": "function", "name": "f"}}, "`tools` must be set"),
        ({"input": "x", "truncation": "middle"}, "body.truncation"),
        ({"input": "x", "use_beam_search": True}, "use_beam_search is not supported"),
        ({"input": "x", "guided_grammar": 'start: start "a"'}, "allows no text at all"),
        ({"input": "x", "conversation": "c"}, "conversation is not supported"),
        ({"input": "x", "background": True, "store": False}, "store=true"),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "schema"),
        ({"input": "x " * 3000}, "maximum context length"),
    ],
)
def test_bad_bodies(http: httpx.Client, body: dict[str, Any], message: str) -> None:
    answer = http.post("/v1/responses", json=body)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]["message"]


def test_what_does_not_fit_is_cut(client: openai.OpenAI) -> None:
    response = client.responses.create(input="word " * 3000, truncation="auto", **GREEDY)
    assert response.usage is not None
    assert response.usage.input_tokens == 511  # of 512: one is left for the answer


def test_a_deadline(http: httpx.Client) -> None:
    body = {"input": SEOUL, "ignore_eos": True, "temperature": 0, "timeout": 0.2}
    late = http.post("/v1/responses", json=body)
    assert late.status_code == 504
    assert late.json()["error"]["param"] == "timeout"
    events = http.post("/v1/responses", json={**body, "stream": True}).text.strip().split("\n\n")
    name, data = events[-1].split("\n")
    assert name == "event: response.failed"
    response = json.loads(data.removeprefix("data: "))["response"]
    assert "deadline passed after 0.2 s" in response["error"]["message"]
    assert response["output"][0]["content"][0]["text"], "what there was until then"
    assert http.get(f"/v1/responses/{response['id']}").json()["status"] == "failed"
    started = http.post("/v1/responses", json={**body, "background": True}).json()
    deadline = time.monotonic() + 20
    while (kept := http.get(f"/v1/responses/{started['id']}").json())["status"] != "failed":
        assert time.monotonic() < deadline, kept
        time.sleep(0.02)
    assert "deadline passed" in kept["error"]["message"]


def test_unknown_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-4"):
        client.responses.create(model="gpt-4", input="x")
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(input="x", previous_response_id="resp_nothing", **GREEDY)
    assert missing.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_nothing")
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_nothing")
