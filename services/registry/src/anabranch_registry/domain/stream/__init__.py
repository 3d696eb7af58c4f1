"""The traffic of one scope with all that competes for it: decisions in, moves out. Pure."""

from anabranch_registry.domain.stream.people import People as Stream

__all__ = ["Stream"]
