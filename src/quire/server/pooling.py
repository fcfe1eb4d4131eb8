"""POST /v1/embeddings, /pooling, /v1/score and /rerank: vectors of prompts, and how alike they are.

A score is the cosine of two vectors. Bodies are vLLM's, which are OpenAI's for embeddings and
Cohere's and Jina's for rerank.
"""

import base64
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from quire.core.errors import RequestError
from quire.core.pooling_params import PoolingParams, task_of
from quire.engine.frontend_prompt import Prompt
from quire.server.chat_prompt import conversation_text
from quire.server.errors import APIError
from quire.server.job import Job
from quire.server.params import check_cache_salt
from quire.server.prompts import Truncation, encode_text, offload, take_ids
from quire.server.protocol.pooling import (
    EmbeddingRequest,
    PoolingBody,
    PoolingRequest,
    RerankRequest,
    ScoreRequest,
)
from quire.server.replies import answer_id, json_response, request_id_headers
from quire.server.routes import post, state_of

_FORMAT = {"float32": "f", "float16": "e"}  # struct's letters
_ORDER = {"little": "<", "big": ">", "native": "<" if sys.byteorder == "little" else ">"}

router = APIRouter()


@post(router, "/v1/embeddings", "Embeddings")
async def create_embedding(body: EmbeddingRequest, http: Request) -> Response:
    """A vector for each text."""
    return await _Call(http, body).embedded(body, "embd", "embedding", "embedding")


@post(router, "/pooling", "Embeddings")
async def pool(body: PoolingRequest, http: Request) -> Response:
    """The same under vLLM's general name."""
    task_of(body.task)
    return await _Call(http, body).embedded(body, "pool", "pooling", "data")


@router.post("/classify", response_model=None, include_in_schema=False)
async def classify() -> Response:
    """No: it takes a head that no model here has."""
    message = "The model does not support the Classification API; use /v1/embeddings or /pooling"
    raise APIError(501, message, "NotImplementedError")


@post(router, "/v1/score", "Embeddings")
@post(router, "/score", "Embeddings")
async def create_score(body: ScoreRequest, http: Request) -> Response:
    """How alike two texts are, in [-1, 1]."""
    call = _Call(http, body)
    first, second = body.sides
    if not first or not second or len(first) not in (1, len(second)):
        raise RequestError(
            "a score takes one text and many, or two lists of one length; got"
            f" {len(first)} and {len(second)}",
            "text_1",
        )
    prompts = await call.texts([*first, *second])
    name = answer_id("score", http, body.request_id)
    vectors = await call.vectors(name, prompts, call.scoring)
    right = vectors[len(first) :]
    left = vectors[: len(first)] * (len(right) // len(first))
    return call.listing(name, prompts, "score", "score", list(map(_cosine, left, right)))


@post(router, "/v2/rerank", "Embeddings")
@post(router, "/v1/rerank", "Embeddings")
@post(router, "/rerank", "Embeddings")
async def rerank(body: RerankRequest, http: Request) -> Response:
    """Documents by how near they are to a query, nearest first."""
    call = _Call(http, body)
    if not body.documents:
        raise RequestError("documents is empty; give at least one", "documents")
    prompts = await call.texts([body.query, *body.texts])
    if body.max_tokens_per_doc is not None:
        limit = min(body.max_tokens_per_doc, call.serving.info.max_model_len)
        keep = Truncation(limit, "right", room=0)
        prompts[1:] = [call.ids(prompt.token_ids or (), keep) for prompt in prompts[1:]]
    name = answer_id("rerank", http, body.request_id)
    query, *documents = await call.vectors(name, prompts, call.scoring)
    scores = [_cosine(query, document) for document in documents]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n or None]
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": scores[index]} for index in best
    ]
    if body.return_documents:
        for result in results:
            result["document"] = {"text": body.texts[result["index"]], "multi_modal": None}
    tokens = _num_tokens(prompts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return call.answer(
        {"id": name, "model": call.state.model_names[0], "usage": usage, "results": results}
    )


class _Call:
    """One request: its body to prompts, these to vectors, and those to an answer.

    Raises:
        RequestError, APIError: from every method; refused, with the field's name.
    """

    def __init__(self, http: Request, body: PoolingBody) -> None:
        self.http, self.body, self.state = http, body, state_of(http)
        self.serving = self.state.ready(body.model)
        check_cache_salt(body.cache_salt)
        self.scoring = PoolingParams(pooling=body.pooling, task="score")
        self._truncation = Truncation(body.truncate_prompt_tokens, body.truncation_side, room=0)

    async def embedded(
        self, body: EmbeddingRequest, prefix: str, kind: str, field: str
    ) -> Response:
        """A vector for each prompt, told as objects of `kind` with it in `field`."""
        prompts = await self.embedding_prompts(body)
        params = PoolingParams(
            pooling=body.pooling, normalize=body.normalized, dimensions=body.dimensions
        )
        name = answer_id(prefix, self.http, body.request_id)
        vectors = await self.vectors(name, prompts, params)
        return self.listing(name, prompts, kind, field, [_encoded(v, body) for v in vectors])

    # --- prompts ---

    async def embedding_prompts(self, body: EmbeddingRequest) -> list[Prompt]:
        given = body.input
        if body.messages is not None:
            text = conversation_text(self.state, self.serving, body.messages, body)
            return await self.texts([text], bool(body.add_special_tokens))
        if isinstance(given, str):
            given = [given]
        if not given:
            raise RequestError("input is empty; give at least one text", "input")
        if texts := [each for each in given if isinstance(each, str)]:
            return await self.texts(texts, body.add_special_tokens is not False)
        flat = [each for each in given if isinstance(each, int)]
        lists = [flat] if flat else [each for each in given if isinstance(each, list)]
        self._check_count(len(lists))
        return [self.ids(ids, self._truncation) for ids in lists]

    async def texts(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[Prompt]:
        self._check_count(len(texts))
        return await offload(sum(map(len, texts)), self._encode, texts, add_special_tokens)

    def _encode(self, texts: Sequence[str], add_special_tokens: bool) -> list[Prompt]:
        salt = self.body.cache_salt or ""
        return [
            encode_text(
                self.serving,
                text,
                self._truncation,
                cache_salt=salt,
                add_special_tokens=add_special_tokens,
            )
            for text in texts
        ]

    def ids(self, token_ids: Sequence[int], truncation: Truncation) -> Prompt:
        return take_ids(self.serving, token_ids, truncation, self.body.cache_salt or "")

    def _check_count(self, count: int) -> None:
        limit = self.state.config.max_prompts
        if count > limit:
            raise RequestError(
                f"{count} texts are more than the limit of {limit}; send them in several requests",
                "input",
            )

    # --- vectors and answers ---

    async def vectors(
        self, name: str, prompts: Sequence[Prompt], params: PoolingParams
    ) -> list[list[float]]:
        job = await Job.open(
            self.state,
            self.http,
            prompts,
            params,
            request_id=name,
            priority=self.body.priority,
            streaming=False,
            timeout=self.body.timeout,
        )
        try:
            await job.finished()
            return [sequence.embedding or [] for sequence in job.sequences]
        finally:
            job.close()

    def listing(
        self, name: str, prompts: Sequence[Prompt], kind: str, field: str, values: Sequence[Any]
    ) -> Response:
        tokens = _num_tokens(prompts)
        return self.answer(
            {
                "id": name,
                "object": "list",
                "created": int(time.time()),
                "model": self.state.model_names[0],
                "data": [
                    {"index": index, "object": kind, field: value}
                    for index, value in enumerate(values)
                ],
                "usage": {
                    "prompt_tokens": tokens,
                    "total_tokens": tokens,
                    "completion_tokens": 0,
                    "prompt_tokens_details": None,
                },
            }
        )

    def answer(self, body: dict[str, Any]) -> Response:
        return json_response(body, request_id_headers(self.http))


def _num_tokens(prompts: Sequence[Prompt]) -> int:
    return sum(len(prompt.token_ids or ()) for prompt in prompts)


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Of vectors of length 1."""
    return sum(a * b for a, b in zip(first, second))


def _encoded(vector: list[float], body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "float":
        return vector
    layout = f"{_ORDER[body.endianness]}{len(vector)}{_FORMAT[body.embed_dtype]}"
    return base64.b64encode(struct.pack(layout, *vector)).decode("ascii")
