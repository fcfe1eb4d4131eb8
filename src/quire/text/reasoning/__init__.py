"""Reasoning: the model's thinking told apart from its answer while the text streams.

`parser` splits one response, reads from the prompt whether it begins inside the thinking, and puts
the tool parser behind it; `formats` is the table of tags by vLLM's parser names.
Runs in the front end.
"""
