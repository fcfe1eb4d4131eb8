"""POST /v1/embeddings, /v1/score and /rerank: vectors of prompts, and how alike they are.

A score is the cosine of two vectors. Bodies are vLLM's, which are OpenAI's for embeddings and
Cohere's and Jina's for rerank.
"""

import base64
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.types import DecoratedCallable

from quire.core.errors import RequestError
from quire.core.pooling_params import PoolingParams
from quire.engine.frontend_prompt import Prompt
from quire.engine.frontend_request import TrackedRequest
from quire.server.answer import raise_failed
from quire.server.chat_prompt import conversation_text
from quire.server.ids import answer_id, priority_of, request_id_headers
from quire.server.job import Job
from quire.server.json_body import json_response
from quire.server.params import check_cache_salt
from quire.server.prompts import Truncation, encode_text, offload, take_ids
from quire.server.protocol.pooling import (
    EmbeddingRequest,
    PoolingBody,
    RerankRequest,
    ScoreRequest,
)
from quire.server.routes import GENERATION_ERRORS, JSON_ONLY, state_of
from quire.server.state import ServerState, Serving

_FORMAT = {"float32": "f", "float16": "e"}  # struct's letters
_ORDER = {"little": "<", "big": ">", "native": "<" if sys.byteorder == "little" else ">"}


router = APIRouter()


def _route(path: str) -> Callable[[DecoratedCallable], DecoratedCallable]:
    return router.post(
        path,
        dependencies=JSON_ONLY,
        response_model=None,
        responses=GENERATION_ERRORS,
        tags=["Embeddings"],
    )


@_route("/v1/embeddings")
async def create_embedding(body: EmbeddingRequest, http: Request) -> Response:
    """A vector for each text."""
    state, serving = _check(http, body)
    params = PoolingParams(
        pooling=body.pooling, normalize=body.normalized, dimensions=body.dimensions
    )
    prompts = await _embedding_prompts(state, serving, body)
    name = answer_id("embd", http, body.request_id)
    requests = await _pool(state, http, body, prompts, params, name)
    data = [
        {"index": index, "object": "embedding", "embedding": _encoded(_vector(request), body)}
        for index, request in enumerate(requests)
    ]
    answer = _listing(state, name, data, requests)
    return json_response(answer, _headers(state, http))


@_route("/v1/score")
@_route("/score")
async def create_score(body: ScoreRequest, http: Request) -> Response:
    """How alike two texts are, in [-1, 1]."""
    state, serving = _check(http, body)
    first, second = body.sides
    if not first or not second or len(first) not in (1, len(second)):
        raise RequestError(
            "a score takes one text and many, or two lists of one length; got"
            f" {len(first)} and {len(second)}",
            "text_1",
        )
    prompts = await _texts(state, serving, body, [*first, *second])
    name = answer_id("score", http, body.request_id)
    requests = await _pool(state, http, body, prompts, _scoring(body), name)
    vectors = [_vector(request) for request in requests]
    left, right = vectors[: len(first)], vectors[len(first) :]
    left = left if len(left) == len(right) else left * len(right)
    data = [
        {"index": index, "object": "score", "score": _cosine(a, b)}
        for index, (a, b) in enumerate(zip(left, right))
    ]
    return json_response(_listing(state, name, data, requests), _headers(state, http))


@_route("/v2/rerank")
@_route("/v1/rerank")
@_route("/rerank")
async def rerank(body: RerankRequest, http: Request) -> Response:
    """Documents by how near they are to a query, nearest first."""
    state, serving = _check(http, body)
    texts = body.texts
    if not texts:
        raise RequestError("documents is empty; give at least one", "documents")
    prompts = await _texts(state, serving, body, [body.query, *texts])
    if body.max_tokens_per_doc is not None:
        keep = Truncation(min(body.max_tokens_per_doc, serving.info.max_model_len), "right", room=0)
        prompts[1:] = [
            take_ids(serving, prompt.token_ids or (), keep, prompt.cache_salt)
            for prompt in prompts[1:]
        ]
    name = answer_id("rerank", http, body.request_id)
    requests = await _pool(state, http, body, prompts, _scoring(body), name)
    query, *documents = (_vector(request) for request in requests)
    scores = [_cosine(query, document) for document in documents]
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n or None]
    results = []
    for index in best:
        result: dict[str, Any] = {"index": index, "relevance_score": scores[index]}
        if body.return_documents:
            result["document"] = {"text": texts[index], "multi_modal": None}
        results.append(result)
    tokens = _num_tokens(requests)
    answer = {
        "id": name,
        "model": state.model_names[0],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
    }
    return json_response(answer, _headers(state, http))


# --- bodies to prompts ---


def _check(http: Request, body: PoolingBody) -> tuple[ServerState, Serving]:
    state = state_of(http)
    serving = state.ready()
    state.check_model(body.model)
    check_cache_salt(body.cache_salt)
    return state, serving


async def _embedding_prompts(
    state: ServerState, serving: Serving, body: EmbeddingRequest
) -> list[Prompt]:
    special = body.add_special_tokens
    if body.messages is not None:
        text = conversation_text(
            state,
            serving,
            body.messages,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            chat_template=body.chat_template,
            template_kwargs=body.chat_template_kwargs,
        )
        return await _texts(state, serving, body, [text], bool(special))
    given = body.input
    if isinstance(given, str):
        given = [given]
    if not given:
        raise RequestError("input is empty; give at least one text", "input")
    if isinstance(given[0], str):
        texts = [text for text in given if isinstance(text, str)]
        return await _texts(state, serving, body, texts, special is not False)
    lists = [given] if isinstance(given[0], int) else given
    _check_count(state, len(lists))
    salt = body.cache_salt or ""
    return [take_ids(serving, ids, _truncation(body), salt) for ids in lists]


async def _texts(
    state: ServerState,
    serving: Serving,
    body: PoolingBody,
    texts: Sequence[str],
    add_special_tokens: bool = True,
) -> list[Prompt]:
    _check_count(state, len(texts))

    def encode() -> list[Prompt]:
        return [
            encode_text(
                serving,
                text,
                _truncation(body),
                cache_salt=body.cache_salt or "",
                add_special_tokens=add_special_tokens,
            )
            for text in texts
        ]

    return await offload(sum(map(len, texts)), encode)


def _truncation(body: PoolingBody) -> Truncation:
    return Truncation(body.truncate_prompt_tokens, body.truncation_side, room=0)


def _check_count(state: ServerState, count: int) -> None:
    if count > state.config.max_prompts:
        raise RequestError(
            f"{count} texts are more than the limit of {state.config.max_prompts};"
            " send them in several requests",
            "input",
        )


# --- prompts to vectors to answers ---


def _scoring(body: PoolingBody) -> PoolingParams:
    return PoolingParams(pooling=body.pooling, task="score")


async def _pool(
    state: ServerState,
    http: Request,
    body: PoolingBody,
    prompts: Sequence[Prompt],
    params: PoolingParams,
    name: str,
) -> list[TrackedRequest]:
    job = await Job.open(
        state,
        http,
        prompts,
        params,
        request_id=name,
        priority=priority_of(http, body.priority),
        streaming=False,
        timeout=body.timeout,
    )
    try:
        requests = await job.finished()
        raise_failed(job.sequences)
        return requests
    finally:
        job.close()


def _vector(request: TrackedRequest) -> list[float]:
    vector = request.sequences[0].embedding
    assert vector is not None, "it neither failed nor was aborted"
    return vector


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Of vectors of length 1."""
    return sum(a * b for a, b in zip(first, second))


def _encoded(vector: list[float], body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "float":
        return vector
    layout = f"{_ORDER[body.endianness]}{len(vector)}{_FORMAT[body.embed_dtype]}"
    return base64.b64encode(struct.pack(layout, *vector)).decode("ascii")


def _num_tokens(requests: Sequence[TrackedRequest]) -> int:
    return sum(len(request.message.prompt_token_ids) for request in requests)


def _listing(
    state: ServerState, name: str, data: list[dict[str, Any]], requests: Sequence[TrackedRequest]
) -> dict[str, Any]:
    tokens = _num_tokens(requests)
    return {
        "id": name,
        "object": "list",
        "created": int(time.time()),
        "model": state.model_names[0],
        "data": data,
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


def _headers(state: ServerState, http: Request) -> dict[str, str]:
    return request_id_headers(http, state.config.enable_request_id_headers)
