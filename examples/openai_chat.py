"""Hold a conversation with the openai client: whole, streamed, with a tool, and as JSON.

quire serve &
python examples/openai_chat.py [http://localhost:8000/v1] [API_KEY]
"""

import json
import sys
from typing import Any

from openai import OpenAI

messages: list[Any] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of South Korea?"},
]
weather: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
city: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 20}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
}


def main(base_url: str = "http://localhost:8000/v1", api_key: str = "EMPTY") -> None:
    client = OpenAI(base_url=base_url, api_key=api_key)
    model = client.models.list().data[0].id

    answer = client.chat.completions.create(model=model, messages=messages, temperature=0.0)
    print("Answer:", answer.choices[0].message.content)

    print("Streamed: ", end="")
    stream = client.chat.completions.create(
        model=model,
        messages=messages,
        temperature=0.0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f" ({chunk.usage.completion_tokens} tokens)")

    question: list[Any] = [{"role": "user", "content": "What is the weather in Seoul?"}]
    call = client.chat.completions.create(
        model=model, messages=question, tools=[weather], temperature=0.0
    )
    for tool_call in call.choices[0].message.tool_calls or []:
        if tool_call.type == "function":
            arguments = json.loads(tool_call.function.arguments)
            print(f"Tool: {tool_call.function.name} with {arguments}")

    structured = client.chat.completions.create(
        model=model, messages=messages, response_format=city, temperature=0.0, max_tokens=64
    )
    print("JSON:", json.loads(structured.choices[0].message.content or ""))


if __name__ == "__main__":
    main(*sys.argv[1:3])
