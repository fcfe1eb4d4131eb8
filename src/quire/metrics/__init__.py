"""What a running server says about itself: Prometheus metrics, log lines, traces.

Counts and times only, never a prompt or a key. Imports no torch, keeps no global state, starts no
thread; everything here belongs to the front end's event loop.
"""
