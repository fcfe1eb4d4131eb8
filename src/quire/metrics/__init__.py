"""What a running server says about itself: Prometheus metrics, log lines, traces.

Counts and times only, never a prompt or a key. Imports no torch, keeps no global state, starts no
thread of its own; everything here belongs to the front end's event loop. How lines are written is
`core.logs`'.

    setup.py         everything below, put together from its options
    registry.py      what the front end reports, and the bytes of /metrics
    families.py, buckets.py    the metrics by name; instruments.py, what they are made of
    finished.py      the figures of an ended request, for those that follow
    request_log.py   a line each; tracing.py, a span each
    status_line.py   a line every ten seconds under load
    http.py          HTTP requests
"""
