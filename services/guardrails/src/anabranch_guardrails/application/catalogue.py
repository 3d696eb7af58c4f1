"""The checks that this service was started with, and policies made ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from anabranch_faults import Invalid
from anabranch_guardrails.application.ports import Anonymiser, Check, RemoteCheck
from anabranch_guardrails.domain import Stage, Subject, Verdict
from anabranch_guardrails.domain.known import CHECKS
from anabranch_guardrails.domain.policies import FailureMode, Policy, Rule

__all__ = ["WINDOW", "Catalogue", "Kind", "Plan", "Step", "look_once"]

WINDOW: Final = 16_384
"""Code points that a check sees at once; a longer text is seen in windows, each within the rule's time."""
_HERE: Final = timedelta(milliseconds=50)
_ELSEWHERE: Final = timedelta(seconds=2)
_ORDER: Final = {name: place for place, name in enumerate(CHECKS)}
_LAST: Final = len(_ORDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A check as policies can have it. One of `make` and `remote` is set.

    `whole`: a text cannot be looked at in windows, nor an answer before it is complete; where it is `spanned` too,
    each place that it finds is sure as soon as it is there. `asked`: what it finds in a passage depends on what the
    person asked. `window`: code points seen at once. `timeout`: of rules that say nothing (None: 50 ms here, 2 s
    elsewhere).
    """

    name: str
    version: str
    stages: frozenset[Stage]
    threshold: float
    description: str
    make: Callable[[Mapping[str, object]], Check] | None = None
    remote: RemoteCheck | None = None
    whole: bool = False
    spanned: bool = False
    asked: bool = False
    window: int = WINDOW
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A rule and the check that it runs; one of `check` and `remote` is set."""

    rule: Rule
    kind: Kind
    version: str
    timeout: timedelta
    check: Check | None = None
    remote: RemoteCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A policy, ready to run."""

    policy: Policy
    steps: Mapping[Stage, tuple[Step, ...]]


class Catalogue:
    """All kinds of checks, in the order they run."""

    def __init__(
        self, kinds: Iterable[Kind], *, anonymiser: Callable[[frozenset[str]], Anonymiser] | None = None
    ) -> None:
        """Takes the kinds, and what makes an anonymiser for kinds of personal data."""
        self._kinds = {kind.name: kind for kind in sorted(kinds, key=lambda kind: _ORDER.get(kind.name, _LAST))}
        self._anonymiser = anonymiser

    @property
    def kinds(self) -> Sequence[Kind]:
        """In the order they run."""
        return tuple(self._kinds.values())

    def anonymiser(self, kinds: frozenset[str]) -> Anonymiser:
        """For one request. Raises Invalid for a kind there is none of."""
        if self._anonymiser is None:
            raise Invalid("nothing here anonymises", field="anonymise")
        return self._anonymiser(kinds)

    def plan(self, policy: Policy) -> Plan:
        """`policy` with its checks made. Raises Invalid for what it asks for and is not here."""
        steps: dict[Stage, list[Step]] = {}
        for place, rule in enumerate(policy.rules):
            try:
                steps.setdefault(rule.stage, []).append(self.step(rule))
            except Invalid as fault:
                raise Invalid(fault.problem, field=f"rules[{place}].{fault.field}", reason=fault.reason) from fault
        if policy.anonymise:
            self.anonymiser(policy.anonymise)
        return Plan(policy=policy, steps={stage: tuple(sorted(found, key=_order)) for stage, found in steps.items()})

    def only(self, plan: Plan, names: Sequence[str], *, stage: Stage) -> Plan:
        """The plan of `stage` with these checks alone; one that the policy has no rule for flags at its threshold."""
        unknown = sorted(set(names) - set(self._kinds))
        if unknown:
            raise Invalid(f"there is no {', '.join(unknown)}; there are: {', '.join(self._kinds)}", field="only")
        rules = [rule for rule in plan.policy.at(stage) if rule.check in names]
        rules += [
            Rule(check=name, stage=stage, action=Verdict.FLAG, on_failure=FailureMode.OPEN)
            for name in dict.fromkeys(names)
            if not any(rule.check == name for rule in rules)
        ]
        return self.plan(replace(plan.policy, rules=tuple(rules)))

    def step(self, rule: Rule) -> Step:
        """The rule with its check made. Raises Invalid."""
        kind = self._kinds.get(rule.check)
        if kind is None:
            known = ", ".join(self._kinds)
            raise Invalid(f"there is no check {rule.check!r}; there are: {known}", field="check")
        if rule.stage not in kind.stages:
            where = ", ".join(stage.name.lower() for stage in sorted(kind.stages))
            raise Invalid(f"{rule.check} looks at {where} only", field="stage")
        if kind.remote is not None:
            return Step(
                rule=rule,
                kind=kind,
                version=kind.version,
                timeout=rule.timeout or kind.timeout or _ELSEWHERE,
                remote=kind.remote,
            )
        if kind.make is None:
            raise Invalid(f"{rule.check} is not set up here", field="check")
        check = kind.make(rule.options)
        return Step(
            rule=rule, kind=kind, version=check.version, timeout=rule.timeout or kind.timeout or _HERE, check=check
        )


def _order(step: Step) -> tuple[bool, int]:
    return step.remote is not None, _ORDER.get(step.rule.check, _LAST)


def look_once(plan: Plan) -> None:
    """Lets every check look at something, so that the first text does not wait for what they load."""
    for stage, steps in plan.steps.items():
        for step in steps:
            if step.check is not None:
                step.check.look(Subject(stage=stage, text="Is all ready?", question="Is it?"))
