"""Passages in, a streamed and cited answer out."""
