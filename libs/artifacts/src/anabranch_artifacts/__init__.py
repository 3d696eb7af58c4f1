"""Artifacts by content: stored, signed, verified."""
