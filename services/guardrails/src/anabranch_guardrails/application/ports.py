"""What the use cases need from outside."""

from __future__ import annotations

from typing import Protocol

from anabranch_guardrails.domain import Finding, Subject

__all__ = ["Check", "RemoteCheck"]


class Check(Protocol):
    """One kind of look at a text, in this process: milliseconds, bounded by the length of the text.

    The same text always gives the same finding; thresholds and what is done about it belong to the policy.
    """

    @property
    def name(self) -> str:
        """As policies name it: `injection`, `pii`, `secrets`, ..."""

    @property
    def version(self) -> str:
        """Changes whenever the same text may be found otherwise."""

    def look(self, subject: Subject) -> Finding:
        """What is found. May raise anything: the caller counts it and does as the policy says."""


class RemoteCheck(Protocol):
    """The same, asked of a model elsewhere."""

    @property
    def name(self) -> str:
        """As policies name it."""

    @property
    def version(self) -> str:
        """Model and endpoint."""

    async def look(self, subject: Subject) -> Finding:
        """What is found. Raises Transient, Unreachable, Invalid for an answer that cannot be read."""
