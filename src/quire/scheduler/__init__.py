"""Who computes how many tokens in the next step, on which pages. No torch, no tensors."""
