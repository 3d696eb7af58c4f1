"""The language that a text is in."""

from anabranch_guardrails.adapters.language.check import VERSION, Language, configured

__all__ = ["VERSION", "Language", "configured"]
