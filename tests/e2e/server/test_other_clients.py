"""langchain-openai and litellm against the boxed model."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from served import Served

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
LITELLM = Path(sys.prefix) / "litellm"  # tools/install.py --dev puts it there


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


_LITELLM = """
import asyncio, json, sys
import litellm

litellm.telemetry = False
common = {"model": "hosted_vllm/boxed", "api_base": sys.argv[1] + "/v1", "api_key": "none"}
chat = {**common, "messages": [{"role": "user", "content": sys.argv[2]}], "temperature": 0}
whole = litellm.completion(**chat)
stream = list(litellm.completion(**chat, stream=True, stream_options={"include_usage": True}))
later = asyncio.run(litellm.acompletion(**chat))
text = litellm.text_completion(
    **{**common, "model": "text-completion-openai/boxed"}, prompt="Hi", max_tokens=2
)
vector = litellm.embedding(**common, input=["a", "b"])
try:
    litellm.completion(**{**chat, "temperature": 3})
    error = ""
except litellm.BadRequestError as caught:
    error = str(caught)
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "stream": "".join(c.choices[0].delta.content or "" for c in stream if c.choices),
    "later": later.choices[0].message.content,
    "tokens": [whole.usage.completion_tokens, text.usage.completion_tokens],
    "vectors": len(vector.data),
    "error": error,
}))
"""


@pytest.mark.skipif(not LITELLM.exists(), reason=f"no litellm in {LITELLM}; run `make test`")
def test_litellm(served: Served) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LITELLM, served.address, QUESTION],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(LITELLM), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["whole"] == said["stream"] == said["later"] == ANSWER
    assert said["tokens"][0] > 0
    assert said["tokens"][1] == 2
    assert said["vectors"] == 2
    assert "temperature" in said["error"]
