"""Op `lookup`: rows of a table by integer, as an embedding's."""
