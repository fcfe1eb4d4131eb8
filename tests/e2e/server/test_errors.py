"""What is refused, how, and that nothing but the request at fault suffers."""

import gzip
from typing import Any

import httpx
import pytest

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def error_of(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == status
    found: dict[str, Any] = body["error"]
    return found


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/tokenize"])
def test_malformed_json(http: httpx.Client, path: str) -> None:
    response = http.post(path, content="{bad", headers={"content-type": "application/json"})
    error = error_of(response)
    assert error["type"] == "Bad Request"
    assert error["param"] == "body.1"
    assert error["message"].startswith("1 validation error:")


def test_wrong_content_type(http: httpx.Client) -> None:
    response = http.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})
    assert error_of(response) == {
        "message": "Unsupported Media Type: Only 'application/json' is allowed",
        "type": "Bad Request",
        "param": None,
        "code": 400,
    }


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {}, "body.messages"),
        (CHAT, {"messages": "hi"}, "body.messages"),
        (CHAT, {"messages": ["hi"]}, "body.messages"),
        (CHAT, {"messages": [{"content": "x"}]}, "body.messages"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "body.messages"),
        (CHAT, {"messages": HELLO, "temperature": "hot"}, "body.temperature"),
        (CHAT, {"messages": HELLO, "stop": list("abcde")}, "body.stop"),
        (CHAT, {"messages": HELLO, "seed": 2**63}, "body.seed"),
        (CHAT, {"messages": HELLO, "tools": [{"type": "function"}]}, "body.tools"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": "many"}, "body.max_tokens"),
        (COMPLETIONS, {"prompt": {"a": 1}}, "body.prompt"),
        ("/detokenize", {"tokens": "x"}, "body.tokens"),
    ],
)
def test_fields_of_the_wrong_form(
    http: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    error = error_of(http.post(path, json=body))
    assert (error["type"], error["param"]) == ("Bad Request", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": 2}, "min_p"),
        ({"top_k": -2}, "top_k"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 0}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"n": 10**6}, "n"),
        ({"stop": [""]}, "stop"),
        ({"min_tokens": 5, "max_tokens": 2}, "min_tokens"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"max_tokens": 100_000}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"use_beam_search": True, "stream": True}, "stream"),
        ({"use_beam_search": True, "stop": "x"}, "stop"),
        ({"use_beam_search": True, "n": 11}, "n"),
        ({"repetition_detection": {"max_pattern_size": 2, "min_count": 1}}, "min_count"),
        (
            {"repetition_detection": {"max_pattern_size": 2, "min_pattern_size": 3}},
            "min_pattern_size",
        ),
        ({"cache_salt": "a/b"}, "cache_salt"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"truncation_side": "middle"}, "truncation_side"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"structured_outputs": {"shape": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "("}}, "regex"),
        ({"guided_json": {"type": "banana"}}, "json"),
        ({"guided_grammar": "start: ("}, "grammar"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_values_out_of_range(
    http: httpx.Client, path: str, fields: dict[str, Any], param: str
) -> None:
    prompt = {"messages": HELLO} if path == CHAT else {"prompt": "Hello"}
    error = error_of(http.post(path, json=prompt | fields))
    assert (error["type"], error["param"]) == ("BadRequestError", param), error
    assert f"(parameter={param}" in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
        ({"tools": []}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
        ),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_completion_tokens": 10_000}, "max_completion_tokens"),
        ({"messages": []}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages",
        ),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"chat_template": "{{ messages }}"}, None),
    ],
)
def test_chat_alone(http: httpx.Client, fields: dict[str, Any], param: str | None) -> None:
    error = error_of(http.post(CHAT, json={"messages": HELLO} | fields))
    assert (error["type"], error["param"]) == ("BadRequestError", param), error


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [99_999_999]}, "prompt"),
        ({"prompt": "x", "logprobs": 21}, "logprobs"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": ["x"] * 1025}, "prompt"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
    ],
)
def test_completions_alone(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    error = error_of(http.post(COMPLETIONS, json=body))
    assert (error["type"], error["param"]) == ("BadRequestError", param), error


@pytest.mark.parametrize(
    "name_and_value",
    [
        ("best_of", 3),
        ("logprob_token_ids", [1]),
        ("prompt_embeds", "AAAA"),
        ("mm_processor_kwargs", {"a": 1}),
        ("kv_transfer_params", {"a": 1}),
        ("vllm_xargs", {"a": 1}),
        ("thinking_token_budget", 10),
        ("logits_processors", ["x"]),
        ("return_weight_versions", True),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_known_and_not_supported(
    http: httpx.Client, path: str, name_and_value: tuple[str, Any]
) -> None:
    name, value = name_and_value
    error = error_of(http.post(path, json={"messages": HELLO, "prompt": "x", name: value}))
    assert (error["type"], error["param"]) == ("BadRequestError", name)


def test_unknown_fields_are_ignored(http: httpx.Client) -> None:
    body = {"prompt": "Hello", "max_tokens": 1, "a_field_of_tomorrow": {"x": [1]}}
    assert http.post(COMPLETIONS, json=body).status_code == 200


def test_unknown_model(http: httpx.Client) -> None:
    error = error_of(http.post(COMPLETIONS, json={"prompt": "x", "model": "nope"}), 404)
    assert (error["type"], error["param"]) == ("NotFoundError", "model")
    assert error["message"] == "The model `nope` does not exist. Valid aliases: `boxed`, `chatty`"


@pytest.mark.parametrize("model", [None, ""])
def test_no_model_is_this_model(http: httpx.Client, model: str | None) -> None:
    body = {"prompt": "x", "model": model, "max_tokens": 1}
    assert http.post(COMPLETIONS, json=body).status_code == 200


def test_prompts_too_long(http: httpx.Client) -> None:
    error = error_of(http.post(COMPLETIONS, json={"prompt": [5] * 600}))
    assert error["param"] == "input_tokens"
    assert error["message"].startswith(
        "This model's maximum context length is 512 tokens. However, your prompt contains 600"
        " input tokens"
    )
    error = error_of(http.post(COMPLETIONS, json={"prompt": [5] * 512}))
    assert error["message"].startswith("max_tokens must be at least 1, got 0.")
    assert error_of(http.post(COMPLETIONS, json={"prompt": "x" * 500_000}))["param"] == "input_text"
    error = error_of(http.post(CHAT, json={"messages": [{"role": "user", "content": "ab " * 800}]}))
    assert error["param"] == "input_tokens"


def test_too_many_tokens_are_clipped(http: httpx.Client) -> None:
    body = {"prompt": [5] * 500, "max_tokens": 500, "ignore_eos": True}
    answer = http.post(COMPLETIONS, json=body).json()
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["choices"][0]["finish_reason"] == "length"


def test_bodies_too_large(http: httpx.Client) -> None:
    large = b'{"prompt": "' + b"x" * (2 << 20) + b'"}'
    json_type = {"content-type": "application/json"}
    error = error_of(http.post(COMPLETIONS, content=large, headers=json_type), 413)
    assert "--max-body-bytes" in error["message"]
    pieces = (large[i : i + 65536] for i in range(0, len(large), 65536))
    assert error_of(http.post(COMPLETIONS, content=pieces, headers=json_type), 413)


def test_compressed_bodies(http: httpx.Client) -> None:
    body = gzip.compress(b'{"prompt": "x"}')
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    error = error_of(http.post(COMPLETIONS, content=body, headers=headers))
    assert error["message"] == "Content-Encoding 'gzip' is not supported; send it plain"


def test_text_that_is_none(http: httpx.Client) -> None:
    json_type = {"content-type": "application/json"}
    for text in (b'"\\ud800"', b'["\\ud800"]'):
        response = http.post(COMPLETIONS, content=b'{"prompt": %s}' % text, headers=json_type)
        assert error_of(response)["param"] == "prompt"
    response = http.post(
        COMPLETIONS, content=b'{"prompt": "x", "model": "\\ud800"}', headers=json_type
    )
    assert error_of(response, 404)["param"] == "model"
    assert error_of(http.post(CHAT, content=b"\xff{}", headers=json_type))
    assert error_of(http.post(CHAT, content=b"[" * 100_000, headers=json_type))


def test_many_mistakes_are_clipped(http: httpx.Client) -> None:
    body = {"prompt": "x" * 100_000, "stop_token_ids": ["a" * 5000] * 50}
    message = error_of(http.post(COMPLETIONS, json=body))["message"]
    assert len(message) < 4000
    assert "and 40 more" in message


def test_unknown_paths_and_methods(http: httpx.Client) -> None:
    response = http.get("/v1/nothing")
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})
    response = http.get(CHAT)
    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
