"""Whether passages bear an answer out."""

from anabranch_guardrails.adapters.grounded.check import VERSION, Groundedness, configured

__all__ = ["VERSION", "Groundedness", "configured"]
