"""Continue a text with the openai client: whole, several at once, and streamed.

quire serve &
python examples/openai_completions.py [http://localhost:8000/v1] [API_KEY]
"""

import sys

from openai import OpenAI


def main(base_url: str = "http://localhost:8000/v1", api_key: str = "EMPTY") -> None:
    client = OpenAI(base_url=base_url, api_key=api_key)
    model = client.models.list().data[0].id

    completion = client.completions.create(
        model=model, prompt="The capital of France is", max_tokens=16, temperature=0.0
    )
    print("Completion:", completion.choices[0].text)

    several = client.completions.create(
        model=model, prompt=["Hello, my name is", "The future of AI is"], n=2, seed=1, logprobs=3
    )
    for choice in several.choices:
        print(f"{choice.index}: {choice.text!r} ({choice.finish_reason})")

    print("Streamed: ", end="")
    stream = client.completions.create(
        model=model, prompt="Once upon a time", max_tokens=32, temperature=0.0, stream=True
    )
    for chunk in stream:
        print(chunk.choices[0].text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:3])
