"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from anabranch_guardrails.domain import Finding, Span, Stage, Subject, Verdict
from anabranch_guardrails.domain.policies import Result

__all__ = ["Anonymiser", "Blocked", "BlockedRecord", "Check", "Prepares", "RemoteCheck", "Restorer", "Telemetry"]


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


@runtime_checkable
class Prepares(Protocol):
    """A check that can read passages before there is an answer to hold against them."""

    def prepare(self, subject: Subject) -> None:
        """Makes the next look with these passages quicker, and changes nothing else."""


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


class Anonymiser(Protocol):
    """Placeholders for personal data; one for each request, so that the same value has the same placeholder."""

    def spans(self, text: str) -> Sequence[Span]:
        """Where personal data of the kinds that it was made for stands."""

    def replaced(self, text: str, spans: Sequence[Span]) -> str:
        """The text with a placeholder for each span, and for what only looked like a placeholder."""

    @property
    def vault(self) -> Mapping[str, str]:
        """What the placeholders given so far stand for. Secret."""


class Restorer(Protocol):
    """Puts back what placeholders stand for, over a text that comes in pieces."""

    def feed(self, piece: str) -> str:
        """Text that is sure by now."""

    def end(self) -> str:
        """What was kept because it might have become a placeholder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A text that was blocked or withheld."""

    request_id: str
    tenant: str
    corpus: str
    stage: Stage
    verdict: Verdict
    policy_version: str
    results: tuple[Result, ...]
    at: datetime


class BlockedRecord(Protocol):
    """Tells of blocked texts behind the caller's back: never waits, and counts what it has to give up."""

    def add(self, blocked: Blocked) -> None:
        """Keeps it until it is told."""


class Telemetry(Protocol):
    """What is counted."""

    def looked(self, stage: Stage, result: Result) -> None:
        """A rule was run, or skipped."""

    def decided(self, stage: Stage, verdict: Verdict, took: timedelta) -> None:
        """A text was decided over."""

    def failed(self, stage: Stage, result: Result, problem: str) -> None:
        """A check failed or took too long; `problem` holds nothing of the text."""

    def remembered(self, *, hit: bool) -> None:
        """A passage's result was looked for among those kept."""

    def held(self, wait: timedelta) -> None:
        """A piece of a stream was released after this wait."""

    def abandoned(self, check: str) -> None:
        """A worker was given up because its check does not come back."""

    def refused(self, version: str, problem: str) -> None:
        """A policy cannot be taken by this build."""
