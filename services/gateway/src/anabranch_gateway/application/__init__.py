"""Use cases of the edge, and the ports they need."""
