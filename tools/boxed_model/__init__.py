"""Makes Quire's boxed model: training text, tokenizer, training, evaluation.

Not part of the installed package; nothing under `src/quire` imports it. Runs as single-process
scripts (`python -m tools.boxed_model.<name>` from the repository root).
"""
