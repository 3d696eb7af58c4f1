"""Trains the heads of guardrails: `make guard-models`."""
