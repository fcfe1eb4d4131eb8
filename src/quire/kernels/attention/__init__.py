"""Softmax attention over paged keys and values, for any mix of query lengths."""
