"""Grammars: what a request's text must look like -> which tokens may come next. No torch.

The front end checks a constraint (`check`), the engine compiles it in threads of its own and
keeps a matcher for every constrained sequence (`grammars`). llguidance does the parsing.
"""
