"""The step loop, the front end's handle on it, and the front end's own bookkeeping."""
