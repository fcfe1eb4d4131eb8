"""Executors run the workers: here in this process; later over processes and hosts."""
