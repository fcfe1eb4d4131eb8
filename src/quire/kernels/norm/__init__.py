"""RMSNorm, alone or fused with the residual addition before it."""
