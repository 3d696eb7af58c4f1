"""Prompts as values: typed variables, composition, and rendering in a sandbox with limits."""
