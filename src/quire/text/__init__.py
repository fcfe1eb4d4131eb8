"""Text and token ids: tokenizers, incremental detokenization, stop strings, chat templates.

Used by front ends only; the engine knows token ids. Imports no torch, and `transformers` only
where a tokenizer cannot be opened without it.
"""
