"""Items of /v1/responses and blocks of /v1/messages to chat messages."""

import pytest

from quire.core.errors import RequestError
from quire.server.errors import APIError
from quire.server.messages_input import chat_request as chat_of_messages
from quire.server.protocol.messages import MessagesRequest
from quire.server.protocol.responses import ResponsesRequest
from quire.server.responses_input import chat_request, messages_of
from quire.server.responses_store import ResponseStore, StoredResponse

ITEMS = [
    {"role": "developer", "content": "Be short."},
    {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Ask."}]},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Wait."}],
    },
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": 1}'},
    {"type": "function_call", "call_id": "b", "name": "g", "arguments": ""},
    {"type": "function_call_output", "call_id": "a", "output": "one"},
    {
        "type": "function_call_output",
        "call_id": "b",
        "output": [{"type": "input_text", "text": "two"}],
    },
    {"role": "assistant", "content": "Done."},
    {"role": "system", "content": "Now in rhyme."},
]


def test_items_become_messages() -> None:
    assert messages_of(ITEMS, "You are kind.") == [
        {"role": "system", "content": "You are kind.\n\nBe short."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "Wait.",
            "reasoning_content": "Ask.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"x": 1}'},
                },
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "one"},
        {"role": "tool", "tool_call_id": "b", "content": "two"},
        {"role": "assistant", "content": "Done."},
        {"role": "system", "content": "Now in rhyme."},
    ]


def test_two_answers_in_a_row_stay_two() -> None:
    items = [{"role": "assistant", "content": "One."}, {"role": "assistant", "content": "Two."}]
    assert [message["content"] for message in messages_of(items, None)] == ["One.", "Two."]


def test_a_responses_body_becomes_a_chat_body() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    body = ResponsesRequest.model_validate(
        {
            "input": "x",
            "tools": [tool, {**tool, "name": "g"}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "g"}],
            },
            "max_output_tokens": 9,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
            "seed": 5,
            "top_k": 3,
            "n": 4,
            "messages": "not these",
        }
    )
    chat = chat_request(body, [{"role": "user", "content": "x"}])
    assert chat.messages == [{"role": "user", "content": "x"}]
    assert [tool.function.name for tool in chat.tools or []] == ["g"]
    assert chat.tool_choice == "required"
    assert (chat.max_completion_tokens, chat.seed, chat.top_k, chat.n) == (9, 5, 3, 1)
    assert chat.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}},
    }


def test_a_messages_body_becomes_a_chat_body() -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "é"}}
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": "gone", "is_error": True},
        {"type": "text", "text": "Well?"},
    ]
    body = MessagesRequest.model_validate(
        {
            "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Please."}],
            "messages": [
                {"role": "user", "content": "Go."},
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "Hm."}, call],
                },
                {"role": "user", "content": results},
            ],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "stop_sequences": ["END"],
            "max_tokens": 7,
        }
    )
    chat = chat_of_messages(body)
    assert chat.messages == [
        {"role": "system", "content": "Be kind.\nPlease."},
        {"role": "user", "content": "Go."},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"x": "é"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "Error: gone"},
        {"role": "user", "content": "Well?"},
    ]
    assert (chat.tool_choice, chat.parallel_tool_calls) == ("required", False)
    assert chat.chat_template_kwargs == {"enable_thinking": True}
    assert (chat.stop, chat.max_tokens) == (["END"], 7)
    assert chat.add_generation_prompt is True


def test_an_answer_begun_is_gone_on_with() -> None:
    messages = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": "The"}]
    chat = chat_of_messages(MessagesRequest.model_validate({"messages": messages, "max_tokens": 1}))
    assert (chat.add_generation_prompt, chat.continue_final_message) == (False, True)


@pytest.mark.parametrize(
    "content",
    [None, 3, [3], [{"type": "input_file"}], [{"type": "input_text"}], [{"text": "x"}]],
)
def test_contents_that_are_no_text(content) -> None:
    with pytest.raises(RequestError, match=r"input\[0\]"):
        messages_of([{"role": "user", "content": content}], None)


# --- the store ---


def kept(name: str, size: int = 10, owner: str | None = None) -> StoredResponse:
    return StoredResponse({"id": name, "text": "x" * size}, [], [], owner)


def test_the_store_is_bounded_in_number() -> None:
    store = ResponseStore(3, 1 << 20)
    for name in "abc":
        store.put(kept(name))
    store.get("a", None)  # used: b is the oldest now
    store.put(kept("d"))
    assert len(store) == 3
    with pytest.raises(APIError, match="'b' not found"):
        store.get("b", None)
    assert store.get("a", None).body["id"] == "a"


def test_the_store_is_bounded_in_bytes() -> None:
    store = ResponseStore(100, 1000)
    for name in "abcde":
        store.put(kept(name, 400))
    assert len(store) == 2
    assert store.num_bytes <= 1000
    store.put(kept("large", 2000))
    with pytest.raises(APIError):
        store.get("large", None)
    assert len(store) == 2
    store.put(kept("e", 10))  # what has become of it
    store.delete("d", None)
    assert store.num_bytes < 100
    store.delete("e", None)
    assert (len(store), store.num_bytes) == (0, 0)


def test_the_store_knows_its_owners() -> None:
    store = ResponseStore(3, 1 << 20)
    store.put(kept("a", owner="me"))
    for other in (None, "you"):
        with pytest.raises(APIError):
            store.get("a", other)
        with pytest.raises(APIError):
            store.delete("a", other)
    assert store.get("a", "me")
