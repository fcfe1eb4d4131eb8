"""The official `openai` client against the boxed model."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from pydantic import BaseModel

from served import Served

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."


class City(BaseModel):
    """What a model is asked to give."""

    city: str
    population: int


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["boxed", "chatty"]
    assert client.models.retrieve("boxed").id == "boxed"


def test_chat(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="boxed", messages=MESSAGES, temperature=0)
    assert done.choices[0].message.content == ANSWER
    stream = client.chat.completions.create(
        model="boxed",
        messages=MESSAGES,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    every = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in every if c.choices) == ANSWER
    assert every[-1].usage == done.usage.model_copy(update={"prompt_tokens_details": None})


def test_completions(client: openai.OpenAI) -> None:
    done = client.completions.create(
        model="boxed", prompt=["Hi", "Ho"], max_tokens=3, logprobs=1, echo=True
    )
    assert [choice.index for choice in done.choices] == [0, 1]
    assert done.choices[0].logprobs.token_logprobs[0] is None


def test_tools(client: openai.OpenAI) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    with client.chat.completions.stream(
        model="boxed",
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[tool],
        temperature=0,
    ) as stream:
        done = stream.get_final_completion()
    (call,) = done.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris"}')


def test_parse(client: openai.OpenAI) -> None:
    done = client.chat.completions.parse(
        model="boxed", messages=MESSAGES, response_format=City, temperature=0, max_tokens=100
    )
    if done.choices[0].finish_reason == "stop":
        assert isinstance(done.choices[0].message.parsed, City)


def test_errors_are_typed(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="boxed", messages=MESSAGES, temperature=3)


def test_async(served: Served) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.address}/v1", api_key="x") as client:

            async def one(seed: int) -> str:
                stream = await client.chat.completions.create(
                    model="boxed", messages=MESSAGES, temperature=0, seed=seed, stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return await asyncio.gather(*map(one, range(8)))

    assert asyncio.run(ask()) == [ANSWER] * 8
