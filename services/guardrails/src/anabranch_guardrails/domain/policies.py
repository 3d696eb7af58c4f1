"""What is checked and what follows: rules, what they make of findings, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from anabranch_faults import Invalid
from anabranch_guardrails.domain.values import Finding, Span, Stage, Status, Verdict

__all__ = [
    "HOLD_BACK",
    "Allow",
    "Edit",
    "FailureMode",
    "Policy",
    "Result",
    "Rule",
    "decide",
    "edits_of",
    "failed",
    "judge",
    "rewritten",
    "skipped",
]

HOLD_BACK: Final = timedelta(milliseconds=100)
LONGEST_HOLD_BACK: Final = timedelta(seconds=10)
LONGEST_TIMEOUT: Final = timedelta(seconds=30)
MESSAGE: Final = "This cannot be answered here."
_NONE: Final[Mapping[str, object]] = MappingProxyType({})


class FailureMode(IntEnum):
    """What holds when a check fails or is too slow; the numbers are the contract's."""

    UNSPECIFIED = 0
    """As CLOSED."""
    OPEN = 1
    """The text passes unchecked; that is flagged and counted."""
    CLOSED = 2
    """The text is blocked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check at one stage, and what is done when its score reaches the threshold (None: the check's own)."""

    check: str
    stage: Stage
    action: Verdict
    threshold: float | None = None
    on_failure: FailureMode = FailureMode.CLOSED
    timeout: timedelta | None = None
    shadow: bool = False
    options: Mapping[str, object] = field(default_factory=lambda: _NONE)

    def __post_init__(self) -> None:
        """Refuses what no check can be run by."""
        if self.stage is Stage.UNSPECIFIED:
            raise Invalid("say input, context, output or ingestion", field="stage")
        if self.action is Verdict.UNSPECIFIED:
            raise Invalid("say what is to be done", field="action")
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise Invalid(f"{self.threshold} is not between 0 and 1", field="threshold")
        if self.timeout is not None and not timedelta(0) < self.timeout <= LONGEST_TIMEOUT:
            raise Invalid("must be more than nothing and at most 30 s", field="timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """What `check` (empty: any) finds is let pass where `matches` says so of the span's text, or of the whole."""

    matches: Callable[[str], bool]
    check: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """An immutable set of rules, named by its content."""

    version: str
    rules: tuple[Rule, ...]
    name: str = ""
    allow: tuple[Allow, ...] = ()
    anonymise: frozenset[str] = frozenset()
    mark_passages: bool = False
    canary: bool = False
    hold_back: timedelta = HOLD_BACK
    message: str = MESSAGE

    def __post_init__(self) -> None:
        """Refuses a wait that nobody would sit out."""
        if not timedelta(0) <= self.hold_back <= LONGEST_HOLD_BACK:
            raise Invalid("must be at most 10 s", field="hold_back")

    def at(self, stage: Stage) -> tuple[Rule, ...]:
        """The rules of one stage, as they are written."""
        return tuple(rule for rule in self.rules if rule.stage is stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one rule made of a text."""

    check: str
    version: str
    verdict: Verdict
    status: Status
    score: float = 0.0
    threshold: float = 0.0
    spans: tuple[Span, ...] = ()
    reason: str = ""
    shadow: bool = False
    took: timedelta = timedelta(0)
    passage: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Code points `start` to `end` are to become `put`."""

    start: int
    end: int
    put: str


def judge(
    rule: Rule,
    finding: Finding,
    text: str,
    *,
    version: str,
    threshold: float,
    allow: Iterable[Allow] = (),
    took: timedelta = timedelta(0),
) -> Result:
    """What `rule` makes of a finding in `text`; `threshold` is the check's own, for a rule that has none.

    A span that an allow-list entry knows is gone, and the score with it where no span is left or the others score less.
    Where parts are to be taken out and the check could not say which, the whole is blocked.
    """
    bar = threshold if rule.threshold is None else rule.threshold
    score, spans = _relaxed(finding, text, [entry for entry in allow if entry.check in ("", rule.check)])
    fires = score >= bar and score > 0
    verdict = rule.action if fires else Verdict.ALLOW
    if fires and verdict is Verdict.REDACT and not spans:
        verdict = Verdict.BLOCK
    return Result(
        check=rule.check,
        version=version,
        verdict=verdict,
        status=Status.OK,
        score=score,
        threshold=bar,
        spans=spans,
        reason=finding.reason if score > 0 else "",
        shadow=rule.shadow,
        took=took,
    )


def failed(
    rule: Rule, status: Status, *, version: str, threshold: float, reason: str, took: timedelta = timedelta(0)
) -> Result:
    """What holds when the check did not come to an end: blocked, or flagged where the policy says open."""
    verdict = Verdict.FLAG if rule.on_failure is FailureMode.OPEN else Verdict.BLOCK
    bar = threshold if rule.threshold is None else rule.threshold
    return Result(
        check=rule.check,
        version=version,
        verdict=verdict,
        status=status,
        threshold=bar,
        reason=reason,
        shadow=rule.shadow,
        took=took,
    )


def skipped(rule: Rule, *, version: str, threshold: float) -> Result:
    """An earlier check had decided."""
    bar = threshold if rule.threshold is None else rule.threshold
    return Result(
        check=rule.check,
        version=version,
        verdict=Verdict.ALLOW,
        status=Status.SKIPPED,
        threshold=bar,
        shadow=rule.shadow,
    )


def decide(results: Iterable[Result]) -> Verdict:
    """The heaviest of what the rules ask for; what runs in shadow has no say."""
    verdict = Verdict.ALLOW
    for result in results:
        if not result.shadow and result.verdict.outweighs(verdict):
            verdict = result.verdict
    return verdict


def edits_of(results: Iterable[Result], *, length: int, keep: frozenset[str] = frozenset()) -> list[Edit]:
    """What is to be taken out of a text of `length`: spans at or over the threshold, or all where none is.

    Spans of `pii` of a kind in `keep` stay: they are anonymised instead.
    """
    edits = []
    for result in results:
        if result.shadow or result.verdict is not Verdict.REDACT:
            continue
        reached = [span for span in result.spans if span.score >= result.threshold] or result.spans
        edits += [
            Edit(span.start, min(span.end, length), f"[{span.kind}]")
            for span in reached
            if span.start < length and not (result.check == "pii" and span.kind in keep)
        ]
    return edits


def rewritten(text: str, edits: Sequence[Edit]) -> str:
    """`text` with every edit made; those that overlap become one, with what the first puts there."""
    parts, done = [], 0
    for edit in merged(edits):
        parts += [text[done : edit.start], edit.put]
        done = edit.end
    return "".join([*parts, text[done:]])


def merged(edits: Iterable[Edit]) -> list[Edit]:
    """The same places, none overlapping another, in order."""
    found: list[Edit] = []
    for edit in sorted(edits):
        if found and edit.start < found[-1].end:
            last = found[-1]
            found[-1] = Edit(last.start, max(last.end, edit.end), last.put)
        else:
            found.append(edit)
    return found


def _relaxed(finding: Finding, text: str, allow: Sequence[Allow]) -> tuple[float, tuple[Span, ...]]:
    if not allow or finding.score == 0:
        return finding.score, finding.spans
    if any(entry.matches(text) for entry in allow):
        return 0.0, ()
    kept = tuple(
        span for span in finding.spans if not any(entry.matches(text[span.start : span.end]) for entry in allow)
    )
    if len(kept) == len(finding.spans):
        return finding.score, finding.spans
    if not kept:
        return 0.0, ()
    return min(finding.score, max(span.score for span in kept)), kept
