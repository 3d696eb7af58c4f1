"""Runs in processes of their own: a folder goes in, files come out."""
