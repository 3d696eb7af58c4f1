"""How the loop of a scope goes: the declaration, checked, and what the registry itself decides by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Final

from anabranch_faults import Invalid
from anabranch_registry.domain.routing import EVERYONE, Change

__all__ = ["STEPS", "Loop", "Policy", "built_in", "faults_of_design", "faults_of_holdout", "faults_of_policy"]

STEPS: Final = ("canary", "experiment", "promotion")

_METRICS: Final = ("satisfaction", "groundedness", "citation_precision", "answered")
_RATIOS: Final = ("latency_p95", "cost")
"""Guards held by max_ratio: their unit says nothing of harm by itself, and that of cost depends on what is known."""
_LOSSES: Final = ("groundedness", "abstention", "block_rate", "satisfaction")
"""Guards held by max_loss."""
_COVARIATES: Final = ("satisfaction_before",)
_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Policy:
    """A declaration: LoopPolicy field by field (protobuf-JSON, names in snake case, durations as `3600s`)."""

    document: Mapping[str, Any] = field(default_factory=dict)

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a part of it, empty when it is left out."""
        found: Mapping[str, Any] = self.document.get(name, {})
        return found

    @property
    def canary_share(self) -> int:
        """Percent."""
        return int(self.section("canary").get("share", 0)) or 5

    @property
    def approvals(self) -> frozenset[str]:
        """Steps that wait for a person."""
        return frozenset(self.document.get("approvals", ()))

    @property
    def paused(self) -> bool:
        """Do candidates stop after the gate?"""
        return bool(self.document.get("paused", False))


def holdout_share(holdout: Mapping[str, Any]) -> int:
    """Percent that the old variant keeps."""
    return int(holdout.get("share", 0)) or 5


def holdout_keep(holdout: Mapping[str, Any]) -> timedelta:
    """Return for how long it keeps them."""
    return _duration(holdout["keep"]) if "keep" in holdout else _WEEK


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """The policy of one scope."""

    noun: ClassVar[str] = "loop"

    scope: str
    revision: int
    policy: Policy
    change: Change

    @property
    def key(self) -> str:
        """Its scope."""
        return self.scope


def built_in(change: Change) -> Loop:
    """Return the policy that holds where none is declared: nothing is trained by itself."""
    document = {"gate": {"metric": "ndcg@10", "mode": "GATE_MODE_IMPROVEMENT"}}
    return Loop(scope=EVERYONE, revision=0, policy=Policy(document), change=change)


def faults_of_policy(document: Mapping[str, Any]) -> list[str]:
    """Return all that is out of range, a line each."""
    faults: list[str] = []
    training, gate, canary = (document.get(name, {}) for name in ("training", "gate", "canary"))
    _most(faults, "training.per_user_cap", training.get("per_user_cap", 0), 1_000_000)
    _length(faults, "training.every", training.get("every"))
    if "@" not in gate.get("metric", "ndcg@10") and not gate.get("metric", "x").replace("_", "").isalnum():
        faults.append(f"gate.metric: {gate['metric']!r} is no metric's name")
    _between(faults, "gate.alpha", gate.get("alpha", 0), 0, 0.5)
    for name in ("margin", "detectable", "worst_slice"):
        _between(faults, f"gate.{name}", gate.get(name, 0), 0, 1)
    _between(faults, "gate.latency_ratio", gate.get("latency_ratio", 0), 0, 1000)
    _between(faults, "gate.cost_ratio", gate.get("cost_ratio", 0), 0, 1000)
    _percent(faults, "canary.share", canary.get("share"))
    _length(faults, "canary.at_least", canary.get("at_least"))
    faults += faults_of_design(document.get("experiment", {}), "experiment")
    faults += faults_of_holdout(document.get("holdout", {}), "holdout")
    approvals = document.get("approvals", ())
    faults += [
        f"approvals[{index}]: {step!r} is no step; there are {', '.join(STEPS)}"
        for index, step in enumerate(approvals)
        if step not in STEPS
    ]
    return faults


def faults_of_design(design: Mapping[str, Any], path: str) -> list[str]:
    """Return all that is out of range in an experiment's design."""
    faults: list[str] = []
    _one_of(faults, f"{path}.metric", design.get("metric", ""), _METRICS)
    _one_of(faults, f"{path}.covariate", design.get("covariate", ""), _COVARIATES)
    _between(faults, f"{path}.alpha", design.get("alpha", 0), 0, 0.5)
    _between(faults, f"{path}.margin", design.get("margin", 0), 0, 1)
    _between(faults, f"{path}.minimum_share", design.get("minimum_share", 0), 0, 0.5)
    _percent(faults, f"{path}.share", design.get("share"))
    _most(faults, f"{path}.looks", design.get("looks", 0), 1_000)
    _length(faults, f"{path}.max_duration", design.get("max_duration"))
    if design.get("mode") == "DECISION_MODE_GROUP_SEQUENTIAL" and not design.get("horizon"):
        faults.append(f"{path}.horizon: GROUP_SEQUENTIAL needs to know where it ends")
    return faults + _faults_of_guards(design.get("guards", ()), f"{path}.guards")


def faults_of_holdout(holdout: Mapping[str, Any], path: str) -> list[str]:
    """Return all that is out of range in a holdout's declaration."""
    faults: list[str] = []
    _percent(faults, f"{path}.share", holdout.get("share"))
    _length(faults, f"{path}.keep", holdout.get("keep"))
    return faults + _faults_of_guards(holdout.get("guards", ()), f"{path}.guards")


def refuse(faults: list[str], field_: str) -> None:
    """Raise Invalid with all of them, if there are any."""
    if faults:
        raise Invalid("; ".join(faults), field=field_, reason="NOT_A_POLICY")


def _faults_of_guards(guards: Any, path: str) -> list[str]:
    faults: list[str] = []
    for index, guard in enumerate(guards):
        at = f"{path}[{index}]"
        metric = guard.get("metric", "")
        _one_of(faults, f"{at}.metric", metric or "?", (*_RATIOS, *_LOSSES))
        wrong = "max_loss" if metric in _RATIOS else "max_ratio"
        if metric in {*_RATIOS, *_LOSSES} and guard.get(wrong):
            right = "max_ratio" if metric in _RATIOS else "max_loss"
            faults.append(f"{at}.{wrong}: does not hold {metric}; give {right}")
        _between(faults, f"{at}.max_ratio", guard.get("max_ratio", 0), 0, 1000)
        _between(faults, f"{at}.max_loss", guard.get("max_loss", 0), 0, 1_000_000)
        if not guard.get("max_ratio") and not guard.get("max_loss"):
            faults.append(f"{at}: asks for nothing: give max_ratio or max_loss")
    return faults


def _between(faults: list[str], path: str, value: float, least: float, most: float) -> None:
    # Written so that NaN is out of range.
    if not least <= value <= most:
        faults.append(f"{path}: is {value}; allowed is {least} to {most}")


def _most(faults: list[str], path: str, value: int, most: int) -> None:
    _between(faults, path, value, 0, most)


def _percent(faults: list[str], path: str, value: int | None) -> None:
    if value is not None:
        _between(faults, path, value, 1, 99)


def _one_of(faults: list[str], path: str, value: str, allowed: tuple[str, ...]) -> None:
    if value and value not in allowed:
        faults.append(f"{path}: {value!r} is none of {', '.join(allowed)}")


def _length(faults: list[str], path: str, value: str | None) -> None:
    if value is not None and _duration(value) <= timedelta(0):
        faults.append(f"{path}: {value} is no length of time")


def _duration(text: str) -> timedelta:
    return timedelta(seconds=float(text.removesuffix("s")))
