"""Text to vectors, batched, with embedding versions."""
