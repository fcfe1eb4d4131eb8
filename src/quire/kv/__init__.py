"""The KV cache as bookkeeping: page pools, page hashes, page tables. Integers only, no torch."""
