"""Whatever a body holds, the answer is never a failure of the server."""

import json
import random
from typing import Any

import httpx
import pytest

ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    "",
    "x",
    "\ud800",
    [],
    [None],
    [3],
    ["x"],
    [[]],
    [[1]],
    {},
    {"type": "x"},
    {"type": 3, "tools": 5, "name": []},
    [{}],
    [{"type": "message", "role": "user", "content": [{"type": "text", "text": 3}]}],
    [{"role": "user", "content": "x"}],
    [{"type": "function", "name": "f", "parameters": {"type": "thing"}}],
    [{"type": "function_call", "name": "f", "arguments": 3}],
    {"type": "allowed_tools", "mode": 4, "tools": [[]]},
    {"format": {"type": "json_schema", "schema": 7}},
]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/responses": {"input": "x", "max_output_tokens": 1},
    "/v1/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/embeddings": {"input": "x"},
    "/v1/score": {"text_1": "x", "text_2": "y"},
    "/rerank": {"query": "x", "documents": ["y"]},
}


@pytest.mark.parametrize("path", GOOD)
def test_odd_values(http: httpx.Client, server: str, path: str) -> None:
    document = http.get("/openapi.json").json()
    reference = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    name = reference["schema"]["$ref"].rpartition("/")[2]
    fields = sorted(document["components"]["schemas"][name]["properties"])
    assert len(fields) > 3
    random.seed(path)
    for field in [*fields, "seed", "stop", "chat_template_kwargs", "logit_bias"]:
        for value in random.sample(ODD, 5):
            body = json.dumps({**GOOD[path], field: value})
            answer = http.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400, 404), (field, value, answer.text)
