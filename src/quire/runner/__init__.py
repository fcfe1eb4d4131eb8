"""A worker's engine room: device rows, KV tensors, and the step (forward and sample)."""
