"""Use cases of guardrails, and the ports they need."""
