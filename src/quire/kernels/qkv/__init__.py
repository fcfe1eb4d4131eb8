"""Op `prepare_qkv`: what happens to q, k and v between their projection and attention."""
