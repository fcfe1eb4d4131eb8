"""Ops: a folder each, with a signature, `reference.py` (plain torch) and fast versions."""
