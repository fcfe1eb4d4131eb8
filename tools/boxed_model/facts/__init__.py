"""Plain data tables the skills draw on. Written for this project; no data set was copied."""
