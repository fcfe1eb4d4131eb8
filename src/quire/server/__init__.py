"""The HTTP front end: OpenAI's API over a tracker, a tokenizer and an engine in another process.

Imports no torch. One asyncio thread runs all of it.

    run.py              everything started, served and stopped again
    app.py              routes and middleware
    state.py            what a request handler needs, in one object
    dispatch.py         a step's outputs to the responses that wait for them
    job.py              one HTTP request's generations, from admission to the last byte
    protocol/           what a request body may hold
    params.py, prompts.py    bodies to sampling parameters and token ids
    chat*.py, completions.py, models.py, tokenize.py, health.py, page.py    the endpoints
    sse.py, replies.py       bytes
    errors.py, access.py     what can go wrong
"""
