"""Tool calls: found in a model's text while it streams, and described for a grammar.

`parser` has `ToolParser`; `formats` the table of formats by vLLM's names, of
four kinds (`formats_*`), each of which reads calls and tells how they are written (`ways`);
`events` what comes out; `detect` finds the format from a chat template; `constraint` says what a
grammar must enforce; `history` prepares earlier calls for templates. Runs in the front end.
"""
