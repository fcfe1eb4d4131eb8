"""Activations of MLPs, gated (one op) and plain."""
