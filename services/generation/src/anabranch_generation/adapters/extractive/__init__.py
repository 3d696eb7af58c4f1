"""Answers quoted from the passages, without a model: no weights, no network."""
