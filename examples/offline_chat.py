"""Answer conversations: one, several at once, and one with a tool.

python examples/offline_chat.py [MODEL]
"""

import sys

from quire import LLM, SamplingParams

greeting = [
    {"role": "system", "content": "You are a helpful assistant"},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello! How can I assist you today?"},
    {"role": "user", "content": "What is the capital of South Korea?"},
]
others = [
    [{"role": "user", "content": "대한민국의 수도는?"}],
    [{"role": "user", "content": "What is 3 + 4?"}],
]
weather = {
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


def main() -> None:
    llm = LLM(*sys.argv[1:2])
    sampling_params = SamplingParams(temperature=0.0, max_tokens=64)

    outputs = llm.chat(greeting, sampling_params=sampling_params, use_tqdm=False)
    outputs += llm.chat(others, sampling_params=sampling_params, use_tqdm=False)
    question = [{"role": "user", "content": "What is the weather in Seoul?"}]
    outputs += llm.chat(question, sampling_params, tools=[weather], use_tqdm=False)
    for output in outputs:
        print(f"Prompt: {output.prompt!r}\nAnswer: {output.outputs[0].text!r}\n")


if __name__ == "__main__":
    main()
