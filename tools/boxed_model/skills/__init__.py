"""The boxed model's skills: each file turns data tables and phrasings into exchanges."""
