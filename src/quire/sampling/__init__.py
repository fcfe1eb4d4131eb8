"""From logits to tokens: one pass over the step's lines, on the device, without state.

A *line* is one sequence's logits in the step; a *row* is its place in the runner's tensors.

    rows.py        every row's parameters, on the host and on the device
    batch.py       a step's lines: parameters gathered by row, constraints as flat index tensors
    token_mask.py  packed bitmasks of allowed tokens
    bias.py        sparse additions: logit_bias, banned tokens, stop tokens before min_tokens
    penalties.py   repetition, frequency and presence penalties
    processors.py  the user's own callables
    logprobs.py    log-probabilities and ranks
    sampler.py     the order of these, and the draw
    upload.py      small host arrays to the device, queued
    check.py       validation against the vocabulary; imports no torch
"""
