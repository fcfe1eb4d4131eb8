"""Bodies and chunks, field by field, as clients of this API know them."""

import re
from typing import Any

import httpx
import pytest

CHUNK = {"id", "object", "created", "model", "choices"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
WEATHER = "What is the weather in Paris?"


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    """A streamed choice's text."""
    choices = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
    return "".join(c["text"] if "text" in c else c["delta"].get("content") or "" for c in choices)


# --- chat ---


def test_chat_body(chat) -> None:
    body = chat().json()
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{16}", body["id"])
    assert list(body) == [
        "id", "object", "created", "model", "choices", "service_tier", "system_fingerprint",
        "usage", "prompt_logprobs", "prompt_token_ids", "prompt_text", "kv_transfer_params",
        "ec_transfer_params", "metrics",
    ]  # fmt: skip
    assert (body["object"], body["model"]) == ("chat.completion", "boxed")
    (choice,) = body["choices"]
    assert choice == {
        "index": 0,
        "message": {
            "role": "assistant", "content": "The capital of France is Paris.", "refusal": None,
            "annotations": None, "audio": None, "function_call": None, "reasoning": None,
            "reasoning_content": None,
        },
        "logprobs": None, "finish_reason": "stop", "stop_reason": None, "token_ids": None,
        "routed_experts": None, "weight_versions": None,
    }  # fmt: skip
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] is None
    assert "completion_tokens_details" not in usage  # only with a reasoning parser


def test_chat_chunks(chat, chunks) -> None:
    first, *middle, last = chunks(chat(stream=True))
    assert first["choices"] == [
        {
            "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None,
            "finish_reason": None,
        }
    ]  # fmt: skip
    assert set(first) == CHUNK | {"prompt_token_ids", "prompt_text"}
    for chunk in middle:
        (choice,) = chunk["choices"]
        assert set(chunk) == CHUNK | {"kv_transfer_params"}
        assert set(choice) == {"index", "delta", "logprobs", "finish_reason", "token_ids"}
        assert set(choice["delta"]) == {"content"}
        assert choice["finish_reason"] is None
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["choices"][0]["stop_reason"] is None
    assert last["system_fingerprint"].startswith("quire-")
    every = [first, *middle, last]
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in every}) == 1
    assert all("usage" not in c for c in every)
    assert text_of(every) == chat().json()["choices"][0]["message"]["content"]


def test_usage_in_streams(chat, chunks) -> None:
    whole = chat().json()["usage"]
    *others, last = chunks(chat(stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"] == {k: v for k, v in whole.items() if v is not None}
    assert "system_fingerprint" in last
    assert all("usage" not in c and "system_fingerprint" not in c for c in others)
    options = {"include_usage": True, "continuous_usage_stats": True}
    every = chunks(chat(stream=True, stream_options=options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in every]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == whole["completion_tokens"]


def test_several_choices(chat, chunks) -> None:
    fields = {"n": 3, "temperature": 1.0, "seed": 5, "max_tokens": 12, "ignore_eos": True}
    body = chat("Tell me a story.", **fields).json()
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert body["usage"]["completion_tokens"] == 36
    every = chunks(chat("Tell me a story.", stream=True, **fields))
    assert all(len(chunk["choices"]) == 1 for chunk in every)
    assert [text_of(every, index) for index in range(3)] == texts
    roles = [c["choices"][0]["index"] for c in every if "role" in c["choices"][0]["delta"]]
    assert roles == [0, 1, 2]
    assert [c["choices"][0]["finish_reason"] for c in every].count("length") == 3


def test_chat_logprobs(chat, chunks) -> None:
    fields = {"logprobs": True, "top_logprobs": 3, "max_tokens": 6}
    content = chat(**fields).json()["choices"][0]["logprobs"]["content"]
    assert len(content) == 6
    for entry in content:
        assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0] == {k: entry[k] for k in ("token", "logprob", "bytes")}
        assert all(set(top) == {"token", "logprob", "bytes"} for top in entry["top_logprobs"])
    streamed = [
        entry
        for chunk in chunks(chat(stream=True, **fields))
        for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == content
    bare = chat(logprobs=True, max_tokens=2).json()["choices"][0]["logprobs"]["content"]
    assert [entry["top_logprobs"] for entry in bare] == [[], []]
    as_ids = chat(logprobs=True, max_tokens=1, return_tokens_as_token_ids=True).json()
    assert re.fullmatch(r"token_id:\d+", as_ids["choices"][0]["logprobs"]["content"][0]["token"])


def test_chat_token_ids_and_prompt(chat, chunks) -> None:
    fields = {"return_token_ids": True, "return_prompt_text": True, "max_tokens": 4}
    body = chat(**fields).json()
    assert body["prompt_text"].endswith("<|im_start|>assistant\n")
    assert len(body["prompt_token_ids"]) == body["usage"]["prompt_tokens"]
    ids = body["choices"][0]["token_ids"]
    assert len(ids) == 4
    first, *rest = chunks(chat(stream=True, **fields))
    assert first["prompt_token_ids"] == body["prompt_token_ids"]
    assert first["prompt_text"] == body["prompt_text"]
    assert [i for chunk in rest for i in chunk["choices"][0]["token_ids"] or []] == ids


def test_prompt_logprobs(chat, complete) -> None:
    for body in (chat(prompt_logprobs=1).json(), complete(prompt_logprobs=1).json()):
        holder = body if "prompt_logprobs" in body else body["choices"][0]
        first, *others = holder["prompt_logprobs"]
        assert first is None
        assert len(others) == body["usage"]["prompt_tokens"] - 1
        for position in others:
            for token_id, entry in position.items():
                assert token_id.isdigit()
                assert set(entry) == {"logprob", "rank", "decoded_token"}


def test_stop_strings_and_tokens(chat) -> None:
    choice = chat(stop=[" France"]).json()["choices"][0]
    assert choice["message"]["content"] == "The capital of"
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", " France")
    kept = chat(stop=" France", include_stop_str_in_output=True).json()["choices"][0]
    assert kept["message"]["content"] == "The capital of France"
    ids = chat(return_token_ids=True).json()["choices"][0]["token_ids"]
    choice = chat(stop_token_ids=[ids[3]]).json()["choices"][0]
    assert choice["stop_reason"] == ids[3]
    assert choice["message"]["content"] == "The capital of"


def test_max_completion_tokens_wins(chat) -> None:
    body = chat(max_tokens=5, max_completion_tokens=2).json()
    assert body["usage"]["completion_tokens"] == 2
    assert body["choices"][0]["finish_reason"] == "length"


def test_continue_and_echo(http: httpx.Client, chunks) -> None:
    body: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": "The capital of"},
        ],
        "temperature": 0,
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
    answer = http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    assert answer["content"] == " France is Paris."
    echoed = http.post("/v1/chat/completions", json=body | {"echo": True})
    assert echoed.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."
    streamed = http.post("/v1/chat/completions", json=body | {"echo": True, "stream": True})
    assert text_of(chunks(streamed)) == "The capital of France is Paris."


def test_content_parts_and_system(http: httpx.Client) -> None:
    parts = [
        {"type": "text", "text": "What is the capital"},
        {"type": "text", "text": " of France?"},
    ]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    body = http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 3}).json()
    assert body["usage"]["completion_tokens"] == 3


def test_ids_come_from_the_client(http: httpx.Client) -> None:
    body = {"prompt": "Hello", "max_tokens": 1}
    headers = {"X-Request-Id": "from-header"}
    first = http.post("/v1/completions", json=body | {"request_id": "x"}, headers=headers).json()
    assert first["id"] == "cmpl-from-header"
    assert http.post("/v1/completions", json=body | {"request_id": "x"}).json()["id"] == "cmpl-x"


def test_stream_interval(chat, chunks) -> None:
    every = chunks(chat(stream=True, stream_interval=4))
    assert len(every) < 6
    assert text_of(every) == "The capital of France is Paris."


# --- tools ---


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("auto", "tool_calls"),
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "get_weather"}}, "stop"),
    ],
)
def test_tool_calls(chat, chunks, choice: Any, reason: str) -> None:
    fields = {"tools": TOOLS, "tool_choice": choice, "max_tokens": 64}
    whole = chat(WEATHER, **fields).json()["choices"][0]
    (call,) = whole["message"]["tool_calls"]
    assert list(call) == ["id", "type", "function"]
    assert re.fullmatch(r"chatcmpl-tool-[0-9a-f]{16}", call["id"])
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert whole["finish_reason"] == reason
    assert whole["message"]["content"] == (None if choice == "auto" else "")
    deltas = [
        delta
        for chunk in chunks(chat(WEATHER, stream=True, **fields))
        for delta in chunk["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert set(deltas[0]) == {"id", "type", "index", "function"}
    assert deltas[0]["function"] == {"name": "get_weather"}
    assert all(set(d) == {"index", "function"} and d["index"] == 0 for d in deltas[1:])
    assert "".join(d["function"]["arguments"] for d in deltas[1:]) == '{"city": "Paris"}'


def test_a_forced_call_that_is_cut_short(chat, chunks) -> None:
    for length in (1, 8):
        fields = {"tools": TOOLS, "tool_choice": "required", "max_tokens": length}
        whole = chat(WEATHER, **fields).json()["choices"][0]
        assert (whole["message"]["content"], whole["finish_reason"]) == ("", "length")
        deltas = [c["choices"][0]["delta"] for c in chunks(chat(WEATHER, stream=True, **fields))]
        assert not any(delta.get("content") for delta in deltas)


def test_tools_that_may_not_be_called(chat) -> None:
    message = chat(WEATHER, tools=TOOLS, tool_choice="none").json()["choices"][0]["message"]
    assert "tool_calls" not in message


def test_a_conversation_with_calls_goes_on(http: httpx.Client) -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    messages = [
        {"role": "user", "content": WEATHER},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny, 21 degrees"},
    ]
    body = {"messages": messages, "tools": TOOLS, "max_tokens": 8}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text


# --- structured outputs ---


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"choice": ["red", "green"]}},
        {"guided_choice": ["red", "green"]},
        {"structured_outputs": {"regex": "red|green"}},
        {"guided_regex": "red|green"},
        {"guided_grammar": 'start: "red" | "green"'},
    ],
)
def test_constraints(chat, complete, fields: dict[str, Any]) -> None:
    answer = chat("A colour?", **fields).json()["choices"][0]["message"]["content"]
    assert answer in ("red", "green")
    assert complete("A colour:", **fields).json()["choices"][0]["text"] in ("red", "green")


def test_nothing_but_the_end(chat) -> None:
    choice = chat(structured_outputs={"choice": ["<|im_end|>"]}).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "stop")


# --- completions ---


def test_completion_body(complete) -> None:
    body = complete(max_tokens=3).json()
    assert re.fullmatch(r"cmpl-[0-9a-f]{16}", body["id"])
    assert body["object"] == "text_completion"
    (choice,) = body["choices"]
    assert choice.keys() == {
        "index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids",
        "prompt_logprobs", "prompt_token_ids", "routed_experts", "weight_versions",
    }  # fmt: skip
    assert body["usage"]["completion_tokens"] == 3


def test_completion_chunks(complete, chunks) -> None:
    every = chunks(complete(max_tokens=5, stream=True))
    for chunk in every:
        (choice,) = chunk["choices"]
        assert list(choice) == [
            "index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids",
            "token_ids", "weight_versions",
        ]  # fmt: skip
    assert text_of(every) == complete(max_tokens=5).json()["choices"][0]["text"]
    assert every[-1]["choices"][0]["finish_reason"] in ("length", "stop")


def test_completions_default_to_16_tokens(complete) -> None:
    assert complete(ignore_eos=True).json()["usage"]["completion_tokens"] == 16


def test_prompts_in_every_form(http: httpx.Client, complete, chunks) -> None:
    ids = http.post("/tokenize", json={"prompt": "The capital of France is"}).json()["tokens"]
    text = complete(max_tokens=4).json()["choices"][0]["text"]
    assert complete(ids, max_tokens=4).json()["choices"][0]["text"] == text
    for prompts in (["Hi", "The capital of France is"], [[5, 6], ids]):
        fields = {"n": 2, "temperature": 1e-9, "max_tokens": 4, "seed": 1}
        body = complete(prompts, **fields).json()
        assert [c["index"] for c in body["choices"]] == [0, 1, 2, 3]
        every = chunks(complete(prompts, stream=True, **fields))
        for index in range(4):
            assert text_of(every, index) == body["choices"][index]["text"]


def test_echo(complete, chunks) -> None:
    prompt = "The capital of France is"
    plain = complete(max_tokens=2).json()["choices"][0]["text"]
    choice = complete(max_tokens=2, echo=True, logprobs=2).json()["choices"][0]
    assert choice["text"] == prompt + plain
    logprobs = choice["logprobs"]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert "".join(logprobs["tokens"]) == prompt + plain
    for offset, token in zip(logprobs["text_offset"], logprobs["tokens"]):
        assert choice["text"][offset : offset + len(token)] == token
    assert all(len(top) in (2, 3) for top in logprobs["top_logprobs"][1:])
    every = chunks(complete(max_tokens=2, echo=True, logprobs=2, stream=True))
    assert text_of(every) == prompt + plain
    parts = [chunk["choices"][0]["logprobs"] for chunk in every]
    for name, values in logprobs.items():
        assert [item for part in parts for item in part[name]] == values


def test_echo_alone(complete) -> None:
    body = complete(max_tokens=0, echo=True).json()
    assert body["choices"][0]["text"] == "The capital of France is"
    assert body["usage"]["completion_tokens"] == 1


def test_truncation(http: httpx.Client, complete) -> None:
    ids = http.post("/tokenize", json={"prompt": "one two three four five"}).json()["tokens"]
    for side, kept in (("left", ids[-2:]), ("right", ids[:2])):
        fields = {"truncate_prompt_tokens": 2, "truncation_side": side, "return_token_ids": True}
        choice = complete("one two three four five", max_tokens=1, **fields).json()["choices"][0]
        assert choice["prompt_token_ids"] == kept


def test_seed_repeats(complete) -> None:
    fields = {"temperature": 1.5, "seed": 11, "max_tokens": 12}
    assert complete(**fields).json()["choices"] == complete(**fields).json()["choices"]


def test_beam_search(chat, complete) -> None:
    fields = {"use_beam_search": True, "n": 3, "max_tokens": 8, "logprobs": 1}
    body = complete(**fields).json()
    texts = [choice["text"] for choice in body["choices"]]
    assert len(set(texts)) == 3
    assert texts[0] == " Paris."
    assert body["choices"][0]["finish_reason"] == "stop"
    tokens = [choice["logprobs"]["tokens"] for choice in body["choices"]]
    assert sum(map(len, tokens)) == body["usage"]["completion_tokens"]
    echoed = complete(use_beam_search=True, n=2, max_tokens=2, echo=True).json()["choices"]
    assert all(choice["text"].startswith("The capital of France is") for choice in echoed)
    answers = chat(use_beam_search=True, n=2, max_tokens=12).json()["choices"]
    assert answers[0]["message"]["content"] == "The capital of France is Paris."
    assert [answer["index"] for answer in answers] == [0, 1]


def test_repetition_is_ended(complete, chunks) -> None:
    fields = {
        "logit_bias": {"5": 100},
        "ignore_eos": True,
        "max_tokens": 40,
        "repetition_detection": {"max_pattern_size": 3, "min_count": 4},
    }
    choice = complete(**fields).json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("repetition", "repetition_detected")
    assert len(choice["text"]) == 4
    last = chunks(complete(stream=True, **fields))[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("repetition", "repetition_detected")


# --- the rest ---


def test_models(http: httpx.Client) -> None:
    body = http.get("/v1/models").json()
    assert [card["id"] for card in body["data"]] == ["boxed", "chatty"]
    card = body["data"][0]
    assert list(card) == [
        "id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission",
    ]  # fmt: skip
    assert card["max_model_len"] == 512
    assert card["permission"][0]["object"] == "model_permission"
    assert http.get("/v1/models/chatty").json()["id"] == "chatty"
    assert http.get("/v1/models/none").status_code == 404
    assert http.get("/v1/models/").status_code == 404


def test_an_alias_is_answered_by_the_first_name(chat) -> None:
    assert chat(model="chatty", max_tokens=1).json()["model"] == "boxed"


def test_tokenize(http: httpx.Client) -> None:
    body = http.post("/tokenize", json={"prompt": "Hello 서울", "return_token_strs": True}).json()
    assert list(body) == ["count", "max_model_len", "tokens", "token_strs"]
    assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
    text = http.post("/detokenize", json={"tokens": body["tokens"]}).json()
    assert text == {"prompt": "Hello 서울"}
    messages = [{"role": "user", "content": "Hi"}]
    body = http.post("/tokenize", json={"messages": messages}).json()
    rendered = http.post("/detokenize", json={"tokens": body["tokens"]}).json()["prompt"]
    assert rendered == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_what_a_server_says_of_itself(http: httpx.Client) -> None:
    health = http.get("/health")
    assert (health.status_code, health.content) == (200, b"")
    for path in ("/ready", "/ping"):
        assert http.get(path).status_code == 200
    assert http.post("/ping").status_code == 200
    assert set(http.get("/version").json()) == {"version"}
    assert http.get("/load").json() == {"server_load": 0}
    assert http.get("/docs").status_code == 200
    page = http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"


def test_the_document_has_no_422(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert "422" not in str(document)
    assert "/v1/chat/completions" in document["paths"]
