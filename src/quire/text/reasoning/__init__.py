"""Reasoning: the model's thinking told apart from its answer while the text streams.

`parser` splits one response and reads from the prompt whether it begins inside the thinking;
`formats` is the table of tags by vLLM's parser names; `response` puts the tool parser behind it.
Runs in the front end.
"""
