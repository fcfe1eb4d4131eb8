"""What a running server says about itself: Prometheus metrics, log lines, traces.

Counts and times only, never a prompt or a key. Imports no torch, keeps no global state, starts no
thread of its own; everything here belongs to the front end's event loop. How lines are written is
`core.logs`'.

    setup.py         everything below, put together from its options
    registry.py      what the front end reports, and the bytes of /metrics
    families.py, buckets.py    the metrics by name; instruments.py, what they are made of
    finished.py      the figures of an ended request, for those that follow
    log_lines.py     a line each, and one every ten seconds under load; tracing.py, a span each
    http.py          HTTP requests
"""
