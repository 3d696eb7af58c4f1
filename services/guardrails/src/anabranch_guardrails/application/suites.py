"""Suites of labelled texts, run against a policy: what is caught, what is passed, and how long it takes."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from time import perf_counter
from typing import Any, Final

from anabranch_faults import Invalid
from anabranch_guardrails.application.catalogue import Plan, Step
from anabranch_guardrails.application.ports import Check
from anabranch_guardrails.domain import Context, Finding, Stage, Subject, Verdict
from anabranch_guardrails.domain.policies import Result, judge

__all__ = ["ATTACK_CHECKS", "Row", "Suite", "Tools", "look", "read_suite", "run_suite"]

ATTACK_CHECKS: Final = frozenset({"injection", "extraction"})
"""The checks that decide over attacks."""
_CHANNELS: Final = {"user": Stage.INPUT, "retrieved": Stage.CONTEXT}
_LABELS: Final = {"supported": 2, "partially_supported": 1, "not_supported": 0}
_WITHHELD: Final = frozenset({Verdict.BLOCK, Verdict.REVIEW})
_MOST_NAMED: Final = 20
_BETA: Final = 4
"""Of F2: recall counts for four times as much, as the square of 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What suites are run against. `pii_names` leads from names of types to the check's kinds."""

    plan: Plan
    pii: Check
    pii_names: Mapping[str, str]
    groundedness: Check


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Rows of one kind: `attacks`, `pii` or `groundedness`."""

    kind: str
    rows: Sequence[Row]


def read_suite(lines: Iterable[str]) -> Suite:
    """JSON objects, one a line; all of the kind of the first. Raises Invalid that names the lines at fault."""
    rows: list[Row] = []
    faults: list[str] = []
    kind = ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            kind = kind or _kind(row)
            _READ[kind](row)
        except (ValueError, Invalid) as fault:
            faults.append(f"line {number}: {fault.problem if isinstance(fault, Invalid) else 'is not JSON'}")
            continue
        rows.append(row)
    if faults:
        more = f"; and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise Invalid("; ".join(faults[:_MOST_NAMED]) + more, field="suite", reason="NOT_A_SUITE")
    if not rows:
        raise Invalid("has no rows", field="suite", reason="NOT_A_SUITE")
    return Suite(kind=kind, rows=rows)


def _kind(row: object) -> str:
    if not isinstance(row, dict):
        raise Invalid("is not an object")
    if "claim" in row:
        return "groundedness"
    if "spans" in row:
        return "pii"
    if "text" in row and "label" in row:
        return "attacks"
    raise Invalid("has neither text and label, nor text and spans, nor claim and evidence")


def _words(row: object, *names: str) -> None:
    if not isinstance(row, dict):
        raise Invalid("is not an object")
    for name in names:
        if not isinstance(row.get(name), str):
            raise Invalid(f"{name} is not text")


def _attack(row: Any) -> None:
    _words(row, "text", "label")
    if row["label"] not in {"attack", "benign"}:
        raise Invalid(f"label is {row['label']!r}, not attack or benign")
    if row.get("channel", "user") not in _CHANNELS:
        raise Invalid(f"channel is {row['channel']!r}, not user or retrieved")
    if not isinstance(row.get("question") or "", str):
        raise Invalid("question is not text")


def _personal(row: Any) -> None:
    _words(row, "text")
    if not isinstance(row.get("spans"), list):
        raise Invalid("spans is not a list")
    for span in row["spans"]:
        if not isinstance(span, dict) or not isinstance(span.get("type"), str):
            raise Invalid("a span has no type")
        start, end = span.get("start"), span.get("end")
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= len(row["text"]):
            raise Invalid("a span's start and end are not places in the text")


def _claim(row: Any) -> None:
    _words(row, "claim", "label")
    if row["label"] not in _LABELS:
        raise Invalid(f"label is {row['label']!r}, not {', '.join(_LABELS)}")
    evidence = row.get("evidence")
    if not isinstance(evidence, str) and not (
        isinstance(evidence, list) and all(isinstance(one, str) for one in evidence)
    ):
        raise Invalid("evidence is neither text nor a list of texts")


_READ: Final[Mapping[str, Callable[[Any], None]]] = {"attacks": _attack, "pii": _personal, "groundedness": _claim}


def run_suite(suite: Suite, tools: Tools, *, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The figures, rounded to four places; what cannot be told (no row of a kind) is null."""
    run = {"attacks": _run_attacks, "pii": _run_personal, "groundedness": _run_claims}[suite.kind]
    return run(suite.rows, tools, advance)


def look(plan: Plan, subject: Subject) -> list[Result]:
    """What every check of the policy in this process makes of a text, one after the other; a failure is raised."""
    return [
        _judged(step, step.check.look(subject), subject, plan)
        for step in plan.steps.get(subject.stage, ())
        if step.check is not None
    ]


def _judged(step: Step, finding: Finding, subject: Subject, plan: Plan) -> Result:
    return judge(
        step.rule,
        finding,
        subject.text,
        version=step.version,
        threshold=step.kind.threshold,
        allow=plan.policy.allow,
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    attack: bool
    channel: str
    score: float
    caught: bool
    took: float


def _run_attacks(rows: Sequence[Row], tools: Tools, advance: Callable[[], None]) -> dict[str, Any]:
    for channel, stage in _CHANNELS.items():
        used = any(row.get("channel", "user") == channel for row in rows)
        if used and not any(step.rule.check in ATTACK_CHECKS for step in tools.plan.steps.get(stage, ())):
            raise Invalid(f"the policy has neither injection nor extraction at {stage.name.lower()}", field="policy")
    look(tools.plan, Subject(stage=Stage.INPUT, text="What is this?"))  # the first look loads what is needed
    outcomes = [_outcome(row, tools.plan, advance) for row in rows]
    figures = _figures(outcomes)
    channels = sorted({one.channel for one in outcomes})
    if len(channels) > 1:
        figures["by_channel"] = {
            channel: _figures([one for one in outcomes if one.channel == channel]) for channel in channels
        }
    timed = [one.took for one in outcomes if one.channel == "user"] or [one.took for one in outcomes]
    figures |= {"p50_ms": _at(timed, 0.50), "p99_ms": _at(timed, 0.99)}
    return figures


def _outcome(row: Row, plan: Plan, advance: Callable[[], None]) -> _Outcome:
    channel = row.get("channel", "user")
    subject = Subject(stage=_CHANNELS[channel], text=row["text"], question=row.get("question") or "")
    began = perf_counter()
    results = [one for one in look(plan, subject) if one.check in ATTACK_CHECKS]
    took = perf_counter() - began
    advance()
    return _Outcome(
        attack=row["label"] == "attack",
        channel=channel,
        score=max((one.score for one in results), default=0.0),
        caught=any(one.verdict in _WITHHELD and not one.shadow for one in results),
        took=took * 1e3,
    )


def _figures(outcomes: Sequence[_Outcome]) -> dict[str, Any]:
    attacks = [one for one in outcomes if one.attack]
    benign = [one for one in outcomes if not one.attack]
    recall = sum(one.caught for one in attacks) / len(attacks) if attacks else None
    specificity = sum(not one.caught for one in benign) / len(benign) if benign else None
    good, bad = [one.score for one in attacks], sorted(one.score for one in benign)
    at_one = None
    if good and bad:
        bar = bad[len(bad) - 1 - floor(0.01 * len(bad))]
        at_one = sum(score > bar for score in good) / len(good)
    mean = (recall + specificity) / 2 if recall is not None and specificity is not None else None
    return {
        "recall": _short(recall),
        "specificity": _short(specificity),
        "mean": _short(mean),
        "auroc": _short(_area(good, bad)),
        "recall@1%fpr": _short(at_one),
        "n": len(outcomes),
    }


def _run_personal(rows: Sequence[Row], tools: Tools, advance: Callable[[], None]) -> dict[str, Any]:
    wanted: Counter[str] = Counter()
    met: Counter[str] = Counter()
    claimed: Counter[str] = Counter()
    right: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for row in rows:
        known = []
        for span in row["spans"]:
            kind = tools.pii_names.get(span["type"])
            if kind is None:
                others[span["type"]] += 1
            else:
                known.append((span["start"], span["end"], kind))
        found = [
            (span.start, span.end, span.kind)
            for span in tools.pii.look(Subject(stage=Stage.INPUT, text=row["text"])).spans
        ]
        for start, end, kind in known:
            wanted[kind] += 1
            met[kind] += any(kind == other and low < end and start < high for low, high, other in found)
        for start, end, kind in found:
            claimed[kind] += 1
            right[kind] += any(kind == other and low < end and start < high for low, high, other in known)
        advance()
    by_type = {
        kind: {
            "recall": _short(met[kind] / wanted[kind]) if wanted[kind] else None,
            "precision": _short(right[kind] / claimed[kind]) if claimed[kind] else None,
            "n": wanted[kind],
        }
        for kind in sorted({*wanted, *claimed})
    }
    recall = met.total() / wanted.total() if wanted.total() else None
    precision = right.total() / claimed.total() if claimed.total() else None
    f2 = None
    if recall is not None and precision is not None:
        weighed = _BETA * precision + recall
        f2 = (1 + _BETA) * precision * recall / weighed if weighed else 0.0
    return {
        "recall": _short(recall),
        "precision": _short(precision),
        "f2": _short(f2),
        "by_type": by_type,
        "not_looked_for": dict(sorted(others.items())),
        "n": len(rows),
    }


def _run_claims(rows: Sequence[Row], tools: Tools, advance: Callable[[], None]) -> dict[str, Any]:
    levels: dict[int, list[float]] = {level: [] for level in _LABELS.values()}
    for row in rows:
        evidence = row["evidence"] if isinstance(row["evidence"], str) else "\n".join(row["evidence"])
        subject = Subject(stage=Stage.OUTPUT, text=row["claim"], contexts=(Context(text=evidence),))
        levels[_LABELS[row["label"]]].append(1.0 - tools.groundedness.look(subject).score)
        advance()
    return {
        "auroc": _short(_area(levels[2], sorted(levels[0]))),
        "auroc_partly_or_not": _short(_area(levels[2], sorted([*levels[0], *levels[1]]))),
        "n": len(rows),
    }


def _area(good: Sequence[float], bad: Sequence[float]) -> float | None:
    """How likely a good one scores above a bad one, ties half; `bad` in order. None where there are none of a kind."""
    if not good or not bad:
        return None
    wins = sum(bisect_left(bad, score) + bisect_right(bad, score) for score in good)
    return wins / (2 * len(good) * len(bad))


def _at(values: Sequence[float], share: float) -> float:
    """The smallest value that so many do not pass."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, floor(share * len(ordered)))], 3)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
