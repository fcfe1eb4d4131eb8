"""Models as data: recipes (rank 1), the decoder built from them and the fallback (rank 4)."""
