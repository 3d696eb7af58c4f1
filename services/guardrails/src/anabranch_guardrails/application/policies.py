"""Whose policy holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from anabranch_faults import Invalid, Unreachable
from anabranch_guardrails.application.catalogue import Plan

__all__ = ["BUILT_IN", "Policies", "Resolved", "Whose"]

BUILT_IN: Final = "built-in"
_VARIANT: Final = "variant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """On whose behalf a text is checked; `policy_version` is the variant's own, empty for the scope's."""

    tenant: str = ""
    corpus: str = ""
    policy_version: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The policy that holds, and from where it comes: `variant`, a scope, or `built-in`."""

    plan: Plan
    source: str


@dataclass(slots=True)
class _Scope:
    wanted: str
    good: Plan | None


class Policies:
    """Policies and where they hold, as they were last told. Fits one event loop."""

    def __init__(self, built_in: Plan) -> None:
        """Takes what holds where nothing else does."""
        self._built_in = built_in
        self._versions: dict[str, Plan] = {built_in.policy.version: built_in}
        self._scopes: dict[str, _Scope] = {}

    def __len__(self) -> int:
        """Policies known, the built-in one among them."""
        return len(self._versions)

    def put(self, plan: Plan) -> None:
        """A policy came to be; scopes that waited for it have it from now on."""
        self._versions[plan.policy.version] = plan
        for scope in self._scopes.values():
            if scope.wanted == plan.policy.version:
                scope.good = plan

    def drop(self, version: str) -> None:
        """A policy is no longer told; scopes that have it keep it."""
        if version != self._built_in.policy.version:
            self._versions.pop(version, None)

    def attach(self, scope: str, version: str) -> bool:
        """`scope` is to have a policy (empty: none of its own). False: it is not here, the last good one goes on."""
        if not version:
            self._scopes.pop(scope, None)
            return True
        plan, before = self._versions.get(version), self._scopes.get(scope)
        self._scopes[scope] = _Scope(wanted=version, good=plan or (before.good if before else None))
        return plan is not None

    def resolve(self, whose: Whose) -> Resolved:
        """What holds. Raises Unreachable where it is known by name alone: a weaker one must not stand in for it."""
        if whose.policy_version:
            plan = self._versions.get(whose.policy_version)
            if plan is None:
                raise Unreachable(f"the policy {whose.policy_version} is not known here")
            return Resolved(plan=plan, source=_VARIANT)
        if not whose.tenant:
            raise Invalid("say whose text it is", field="subject.tenant")
        for name in (f"{whose.tenant}/{whose.corpus}", whose.tenant, "*"):
            scope = self._scopes.get(name)
            if scope is None:
                continue
            if scope.good is None:
                raise Unreachable(f"the policy {scope.wanted} of {name} is not known here")
            return Resolved(plan=scope.good, source=name)
        return Resolved(plan=self._built_in, source=BUILT_IN)
