"""What fits and what it costs, before anything is loaded. Imports no torch.

`resolve` turns every "auto" of the configuration into a value with its reason; `memory` splits
a device's memory into weights, KV pages and the rest.
"""
