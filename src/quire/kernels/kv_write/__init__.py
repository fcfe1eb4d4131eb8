"""Storing a step's keys and values in their slots of the paged cache."""
