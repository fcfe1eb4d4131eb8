"""Request bodies as pydantic models: form and types only. What a body asks for is judged in
`params.py` and the endpoints. Unknown fields are kept and ignored."""
