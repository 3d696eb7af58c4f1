"""Prompt and contexts to a streamed answer with citations."""
