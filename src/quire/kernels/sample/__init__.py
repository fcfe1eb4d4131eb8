"""Drawing one token per sequence from its logits, with counter-based noise."""
