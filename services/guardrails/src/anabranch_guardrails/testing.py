"""Stand-ins for tests: small checks, and the parts around them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from anabranch_guardrails.application.catalogue import Catalogue, Kind, Plan
from anabranch_guardrails.application.ports import Blocked, Check, RemoteCheck
from anabranch_guardrails.domain import Finding, Span, Stage, Subject, Verdict
from anabranch_guardrails.domain.policies import FailureMode, Policy, Result, Rule

__all__ = ["Counted", "Faulty", "Hanging", "Kept", "Words", "kind", "plan", "policy", "rule"]

EVERYWHERE = frozenset({Stage.INPUT, Stage.CONTEXT, Stage.OUTPUT, Stage.INGESTION})


@dataclass(slots=True)
class Words:
    """Finds words, wherever they stand; counts how often it looked."""

    name: str
    words: Mapping[str, float]
    kind: str = "WORD"
    version: str = "1"
    looks: int = 0
    spans: bool = True

    def look(self, subject: Subject) -> Finding:
        """Every place of every word."""
        self.looks += 1
        found = []
        for word, score in self.words.items():
            at = subject.text.find(word)
            while at >= 0:
                found.append(Span(start=at, end=at + len(word), kind=self.kind, score=score))
                at = subject.text.find(word, at + 1)
        score = max((span.score for span in found), default=0.0)
        return Finding(score=score, spans=tuple(found) if self.spans else (), reason=f"{len(found)} found")


@dataclass(slots=True)
class Hanging:
    """Does not come back while `released` is not set: it sleeps, or (`busy`) it computes."""

    name: str
    busy: bool = False
    version: str = "1"
    released: threading.Event = field(default_factory=threading.Event)

    def look(self, subject: Subject) -> Finding:
        """Nothing, late."""
        del subject
        until = time.monotonic() + 20
        while not self.released.is_set() and time.monotonic() < until:
            if not self.busy:
                self.released.wait(0.5)
        return Finding(score=0.0)


@dataclass(slots=True)
class Faulty:
    """Raises."""

    name: str
    version: str = "1"

    def look(self, subject: Subject) -> Finding:
        """Raises an error that quotes the text, as errors do."""
        raise RuntimeError(f"cannot read {subject.text!r}")


@dataclass(slots=True)
class Kept:
    """The BlockedRecord port, in a list."""

    blocked: list[Blocked] = field(default_factory=list)

    def add(self, blocked: Blocked) -> None:
        """Keeps it."""
        self.blocked.append(blocked)


@dataclass(slots=True)
class Counted:
    """The Telemetry port, in lists."""

    results: list[Result] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    waits: list[timedelta] = field(default_factory=list)
    memory: list[bool] = field(default_factory=list)
    abandoned_: list[str] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)

    def looked(self, stage: Stage, result: Result) -> None:
        """See the port."""
        del stage
        self.results.append(result)

    def decided(self, stage: Stage, verdict: Verdict, took: timedelta) -> None:
        """See the port."""
        del stage, took
        self.verdicts.append(verdict)

    def failed(self, stage: Stage, result: Result, problem: str) -> None:
        """See the port."""
        del stage
        self.failures.append((result.check, problem))

    def remembered(self, *, hit: bool) -> None:
        """See the port."""
        self.memory.append(hit)

    def held(self, wait: timedelta) -> None:
        """See the port."""
        self.waits.append(wait)

    def abandoned(self, check: str) -> None:
        """See the port."""
        self.abandoned_.append(check)

    def refused(self, version: str, problem: str) -> None:
        """See the port."""
        self.refusals.append((version, problem))


def kind(check: Check, **more: Any) -> Kind:
    """A kind of check that is always this one, at every stage."""
    make: Callable[[Mapping[str, object]], Check] = lambda _: check  # noqa: E731  it is given on
    about = Kind(
        name=check.name,
        version=check.version,
        stages=EVERYWHERE,
        threshold=0.5,
        description="A stand-in.",
        make=make,
    )
    return replace(about, **more)


def remote_kind(check: RemoteCheck, **more: Any) -> Kind:
    """The same, of a model elsewhere."""
    about = Kind(
        name=check.name,
        version=check.version,
        stages=EVERYWHERE,
        threshold=0.5,
        description="A stand-in.",
        remote=check,
    )
    return replace(about, **more)


def rule(check: str, action: Verdict = Verdict.BLOCK, stage: Stage = Stage.INPUT, **more: Any) -> Rule:
    """A rule, closed on failure."""
    return replace(Rule(check=check, stage=stage, action=action, on_failure=FailureMode.CLOSED), **more)


def policy(*rules: Rule, **more: Any) -> Policy:
    """A policy of these rules."""
    return replace(Policy(version="gp-test", rules=rules), **more)


def plan(checks: Sequence[Check], *rules: Rule, **more: Any) -> tuple[Catalogue, Plan]:
    """A policy of these rules over these checks, ready to run."""
    catalogue = Catalogue([kind(check) for check in checks])
    return catalogue, catalogue.plan(policy(*rules, **more))


def data_folder(place: str) -> Path | None:
    """The folder of data beside the checkout, where there is one."""
    for parent in Path(place).resolve().parents:
        if (parent / "shared" / "data").is_dir():
            return parent / "shared" / "data"
    return None
