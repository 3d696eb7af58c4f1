"""Credentials that must not leave."""

from anabranch_guardrails.adapters.secrets.check import VERSION, Secrets, configured

__all__ = ["VERSION", "Secrets", "configured"]
