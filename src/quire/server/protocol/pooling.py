"""POST /v1/embeddings, /pooling, /v1/score and /v1/rerank."""

from typing import Any, Literal

from pydantic import Field, model_validator

from quire.core.pooling_params import Pooling
from quire.server.protocol.common import Body

Texts = str | list[str]


class PoolingBody(Body):
    """What every request for vectors may hold. `pooling` None is the model's own."""

    model: str | None = None
    user: str | None = None
    pooling: Pooling | None = None
    truncate_prompt_tokens: int | None = Field(None, ge=-1)
    truncation_side: Literal["left", "right"] | None = None
    timeout: float | None = Field(None, gt=0)  # seconds; after them the request is given up
    priority: int = Field(0, ge=-(2**31), lt=2**31)
    request_id: str | None = Field(None, max_length=256)
    cache_salt: str | None = None


class EmbeddingRequest(PoolingBody):
    """Texts or token ids to turn into vectors; or one conversation."""

    input: list[int] | list[list[int]] | str | list[str] | None = None
    messages: list[dict[str, Any]] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    use_activation: bool | None = None  # None is True: vectors of length 1
    normalize: bool | None = None  # an older name of it
    add_special_tokens: bool | None = None
    embed_dtype: Literal["float32", "float16"] = "float32"
    endianness: Literal["native", "little", "big"] = "little"
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "EmbeddingRequest":
        if (self.input is None) == (self.messages is None):
            raise ValueError("give input, or messages")
        return self

    @property
    def normalized(self) -> bool:
        """Whether the vectors have length 1."""
        given = self.use_activation if self.use_activation is not None else self.normalize
        return given is not False


class PoolingRequest(EmbeddingRequest):
    """The same; `task` by vLLM's names."""

    task: str = "embed"


class ScoreRequest(PoolingBody):
    """Two texts to compare, one with many, or pairs: under vLLM's names, or others'."""

    text_1: Texts | None = None
    text_2: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None

    @model_validator(mode="after")
    def _two_sides(self) -> "ScoreRequest":
        if len(self._given()) != 1:
            raise ValueError("give text_1 and text_2, or queries and documents")
        return self

    def _given(self) -> list[tuple[Texts, Texts]]:
        pairs = (
            (self.text_1, self.text_2),
            (self.data_1, self.data_2),
            (self.queries, self.documents),
            (self.queries, self.items),
        )
        return [(a, b) for a, b in pairs if a is not None and b is not None]

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        ((first, second),) = self._given()
        return _listed(first), _listed(second)


class RerankDocument(Body):
    """A document with its text under `text`."""

    text: str


class RerankRequest(PoolingBody):
    """Documents to sort by how near they are to a query: Cohere's and Jina's shape."""

    query: str
    documents: list[str | RerankDocument]
    top_n: int | None = Field(None, ge=0)  # None or 0: all of them
    return_documents: bool = True
    max_tokens_per_doc: int | None = Field(None, ge=1)

    @property
    def texts(self) -> list[str]:
        return [d if isinstance(d, str) else d.text for d in self.documents]


def _listed(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else texts
