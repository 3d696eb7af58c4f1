"""Measures how well and how safely documents are read."""
