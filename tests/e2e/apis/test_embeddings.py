"""/v1/embeddings, /v1/score and /rerank over HTTP, with the openai client where it has them."""

import base64
import re
import struct
from typing import Any

import httpx
import openai
import pytest

TEXTS = ["a cat", "a dog", "the capital of South Korea"]


@pytest.fixture
def client(server: str, keys: tuple[str, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server}/v1", api_key=keys[0], max_retries=0)


def embed(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/embeddings", json=body)


def vectors(answer: httpx.Response) -> list[list[float]]:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [entry["index"] for entry in data] == list(range(len(data)))
    return [entry["embedding"] for entry in data]


def cosine(a: list[float], b: list[float]) -> float:
    norms = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
    return sum(x * y for x, y in zip(a, b)) / norms


def test_the_openai_client(client: openai.OpenAI) -> None:
    """It asks for base64 by itself, and decodes it."""
    answer = client.embeddings.create(model="boxed", input=TEXTS)
    assert answer.object == "list"
    assert answer.model == "boxed"
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    for entry in answer.data:
        assert len(entry.embedding) == 256
        assert sum(x * x for x in entry.embedding) == pytest.approx(1.0, abs=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)
    plain = client.embeddings.create(model="boxed", input=TEXTS, encoding_format="float")
    for a, b in zip(answer.data, plain.data):
        assert a.embedding == pytest.approx(b.embedding, abs=1e-5)


def test_the_whole_body(http: httpx.Client) -> None:
    body = embed(http, input="a cat").json()
    assert body["id"].startswith("embd-")
    assert {k: v for k, v in body.items() if k not in ("id", "created", "data")} == {
        "object": "list",
        "model": "boxed",
        "usage": {
            "prompt_tokens": 2,
            "total_tokens": 2,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }
    assert {k: v for k, v in body["data"][0].items() if k != "embedding"} == {
        "index": 0,
        "object": "embedding",
    }


def test_every_form_of_input_is_the_same_vector(http: httpx.Client) -> None:
    ids = http.post("/tokenize", json={"prompt": "a cat"}).json()["tokens"]
    expected = vectors(embed(http, input="a cat"))[0]
    for given in (["a cat"], ids, [ids]):
        assert vectors(embed(http, input=given))[0] == pytest.approx(expected, abs=1e-5)
    two = vectors(embed(http, input=[ids, ids[:1]]))
    assert two[0] == pytest.approx(expected, abs=1e-5)
    assert two[1] != pytest.approx(expected, abs=1e-2)


def test_base64_is_little_endian_float32(http: httpx.Client) -> None:
    expected = vectors(embed(http, input="a cat"))[0]
    coded = vectors(embed(http, input="a cat", encoding_format="base64"))[0]
    raw = base64.b64decode(coded)  # type: ignore[arg-type]
    assert list(struct.unpack("<256f", raw)) == pytest.approx(expected, abs=1e-5)
    options = {"encoding_format": "base64", "embed_dtype": "float16", "endianness": "big"}
    half = base64.b64decode(vectors(embed(http, input="a cat", **options))[0])  # type: ignore[arg-type]
    assert list(struct.unpack(">256e", half)) == pytest.approx(expected, abs=1e-2)


def test_dimensions_poolings_and_normalising(http: httpx.Client) -> None:
    full = vectors(embed(http, input="a cat", use_activation=False))[0]
    short = vectors(embed(http, input="a cat", dimensions=16))[0]
    assert len(short) == 16
    assert sum(x * x for x in short) == pytest.approx(1.0, abs=1e-5)
    norm = sum(x * x for x in full[:16]) ** 0.5
    assert short == pytest.approx([x / norm for x in full[:16]], abs=1e-5)
    made = [vectors(embed(http, input="a cat", pooling=p))[0] for p in ("last", "mean", "cls")]
    assert cosine(made[0], full) == pytest.approx(1.0, abs=1e-5)
    assert cosine(made[0], made[1]) < 0.99
    assert cosine(made[0], made[2]) < 0.99


def test_a_conversation(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "a cat"}]
    rendered = "<|im_start|>user\na cat<|im_end|>\n"
    expected = vectors(embed(http, input=rendered))[0]
    assert vectors(embed(http, messages=messages))[0] == pytest.approx(expected, abs=1e-5)


def test_truncation(http: httpx.Client) -> None:
    ids = list(range(10, 30))
    for side, kept in (("left", ids[-5:]), ("right", ids[:5]), (None, ids[-5:])):
        body = embed(http, input=ids, truncate_prompt_tokens=5, truncation_side=side)
        assert body.json()["usage"]["prompt_tokens"] == 5
        assert vectors(body)[0] == pytest.approx(vectors(embed(http, input=kept))[0], abs=1e-5)
    whole = [11] * 512
    assert embed(http, input=whole).json()["usage"]["prompt_tokens"] == 512
    cut = embed(http, input=[*whole, 12], truncate_prompt_tokens=-1)
    assert cut.json()["usage"]["prompt_tokens"] == 512


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "give input, or messages"),
        ({"input": []}, 400, "input is empty"),
        ({"input": ""}, 400, "the prompt is empty"),
        ({"input": [[]]}, 400, "the prompt is empty"),
        ({"input": [1 << 40]}, 400, "outside the vocabulary"),
        ({"input": 3}, 400, "body.input"),
        ({"input": "x", "dimensions": 257}, 400, "dimensions must be at most the model's 256"),
        ({"input": "x", "dimensions": 0}, 400, "dimensions must be at least 1"),
        ({"input": "x", "encoding_format": "hex"}, 400, "'float' or 'base64'"),
        ({"input": "x", "pooling": "max"}, 400, "'last', 'mean' or 'cls'"),
        ({"input": "x", "model": "gpt-4"}, 404, "The model `gpt-4` does not exist"),
        ({"input": [1] * 513}, 400, "maximum context length is 512"),
        ({"input": "x", "truncate_prompt_tokens": 513}, 400, "truncate_prompt_tokens"),
        ({"input": ["x"] * 1025}, 400, "1025 texts are more than the limit"),
        ({"input": "x", "cache_salt": "a/b"}, 400, "cache_salt"),
    ],
)
def test_bad_bodies(http: httpx.Client, body: dict[str, Any], status: int, message: str) -> None:
    answer = embed(http, **body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["code"] == status


def test_pooling(http: httpx.Client) -> None:
    (vector,) = http.post("/v1/embeddings", json={"input": "a cat"}).json()["data"]
    body = http.post("/pooling", json={"input": "a cat", "task": "embed"}).json()
    assert re.fullmatch(r"pool-[0-9a-f]{16}", body["id"])
    assert body["object"] == "list"
    assert body["data"] == [{"index": 0, "object": "pooling", "data": vector["embedding"]}]
    refused = http.post("/pooling", json={"input": "a cat", "task": "token_embed"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 400)


def test_classify(http: httpx.Client) -> None:
    answer = http.post("/classify", json={"input": "a cat"})
    assert answer.status_code == 501
    assert answer.json()["error"]["type"] == "NotImplementedError"


def test_score(http: httpx.Client) -> None:
    a, b, c = vectors(embed(http, input=TEXTS))
    one = http.post("/v1/score", json={"text_1": TEXTS[0], "text_2": TEXTS[1:]})
    body = one.json()
    assert body["id"].startswith("score-")
    assert body["object"] == "list"
    assert [entry["object"] for entry in body["data"]] == ["score", "score"]
    scores = [entry["score"] for entry in body["data"]]
    assert scores == pytest.approx([cosine(a, b), cosine(a, c)], abs=1e-5)
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] > 6
    for first, second in (("queries", "documents"), ("data_1", "data_2"), ("queries", "items")):
        pairs = http.post("/score", json={first: TEXTS[:2], second: TEXTS[1:]}).json()
        scores = [entry["score"] for entry in pairs["data"]]
        assert scores == pytest.approx([cosine(a, b), cosine(b, c)], abs=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text_1": "x"},
        {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]},
        {"text_1": "a", "text_2": []},
        {"text_1": "a", "text_2": "b", "queries": "a", "documents": "b"},
    ],
)
def test_bad_scores(http: httpx.Client, body: dict[str, Any]) -> None:
    assert http.post("/v1/score", json=body).status_code == 400


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank(http: httpx.Client, path: str) -> None:
    documents = ["a dog", {"text": "a cat"}, "the capital of South Korea"]
    body = {"model": "boxed", "query": "a cat", "documents": documents}
    answer = http.post(path, json=body).json()
    results = answer["results"]
    assert results[0]["index"] == 1
    assert results[0]["document"] == {"text": "a cat", "multi_modal": None}
    assert results[0]["relevance_score"] == pytest.approx(1.0, abs=1e-5)
    assert sorted(r["index"] for r in results) == [0, 1, 2]
    scores = [r["relevance_score"] for r in results]
    assert scores == sorted(scores, reverse=True)
    assert answer["id"].startswith("rerank-")
    assert answer["usage"]["total_tokens"] > 0
    best = http.post(path, json={**body, "top_n": 1, "return_documents": False}).json()["results"]
    assert best == [{"index": 1, "relevance_score": pytest.approx(1.0, abs=1e-5)}]


def test_bad_reranks(http: httpx.Client) -> None:
    for body in ({"query": "x"}, {"query": "x", "documents": []}, {"documents": ["x"]}):
        assert http.post("/rerank", json=body).status_code == 400
    wrong = http.post("/rerank", json={"query": "x", "documents": ["y"], "top_n": -1})
    assert wrong.status_code == 400


def test_a_key_is_needed(server: str) -> None:
    for path in ("/v1/embeddings", "/score", "/rerank"):
        assert httpx.post(f"{server}{path}", json={}).status_code == 401
