"""langchain-openai against the boxed model."""

import asyncio

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from served import Served

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."


class City(BaseModel):
    """What a model is asked to give."""

    city: str


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str


@pytest.fixture
def model(served: Served) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{served.address}/v1", api_key="none", model="boxed", temperature=0, max_retries=0
    )


def test_langchain_chat(model: ChatOpenAI) -> None:
    answer = model.invoke(QUESTION)
    assert answer.content == ANSWER
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"
    assert "".join(chunk.content for chunk in model.stream(QUESTION)) == ANSWER
    assert [each.content for each in model.batch([QUESTION] * 3)] == [ANSWER] * 3
    assert asyncio.run(model.ainvoke(QUESTION)).content == ANSWER


def test_langchain_tools_and_forms(model: ChatOpenAI) -> None:
    answer = model.bind_tools([GetWeather], tool_choice="required").invoke(
        "What is the weather in Paris?"
    )
    (call,) = answer.tool_calls
    assert (call["name"], set(call["args"])) == ("GetWeather", {"city"})
    for method in ("json_schema", "function_calling"):
        formed = model.with_structured_output(City, method=method)
        assert isinstance(formed.invoke(QUESTION), City)


def test_langchain_embeddings(served: Served) -> None:
    embeddings = OpenAIEmbeddings(
        base_url=f"{served.address}/v1",
        api_key="none",
        model="boxed",
        check_embedding_ctx_length=False,  # its own tokenizer is another model's
    )
    first, second = embeddings.embed_documents(["a cat", "a dog"])
    assert len(first) == len(second) > 0
