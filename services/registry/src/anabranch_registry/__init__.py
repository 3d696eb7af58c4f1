"""Variants, and which of them serves whom. See README.md."""
