"""Markup in answers that would run, load or send."""

from anabranch_guardrails.adapters.markup.check import VERSION, Markup, configured

__all__ = ["VERSION", "Markup", "configured"]
