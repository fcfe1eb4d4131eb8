"""Modules that the decoder is built from: each takes its recipe, the ops and a parameter maker."""
