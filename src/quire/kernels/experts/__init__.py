"""The routed experts of a mixture-of-experts MLP; the router itself is a layer."""
