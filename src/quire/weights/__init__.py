"""From a model's name to a model in memory: find the files, read them, fill the parameters.

`source` and `hf_config` import no torch; the rest runs in the worker that owns the device.
"""
