"""Deciding gates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from anabranch_evaluation.application.datasets import Clock, utc_now
from anabranch_evaluation.application.ports import Gates, GoldenSets, Search, Variants
from anabranch_evaluation.application.running import RunVariant, check_applied
from anabranch_evaluation.domain.costs import Prices
from anabranch_evaluation.domain.gates import Check, Gate, GateSpec, gate_id, judge, judge_cost, judge_latency, verdict
from anabranch_evaluation.domain.golden import GoldenSet
from anabranch_evaluation.domain.runs import DEPTH, Variant
from anabranch_faults import Fault, Invalid, NotFound, Transient

PROBES: Final = 40
"""Questions asked of both variants side by side for the latency condition; a breach is looked at again with as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """A candidate on its way: what it would replace, and what is asked of it. A fault in the policy fails the gate.

    revision: the candidate's; another one of the same candidate asks for another verdict.
    """

    candidate_id: str
    scope: str
    baseline: Variant
    candidate: Variant
    spec: GateSpec
    revision: int = 1

    @property
    def tenant(self) -> str:
        """Whose golden sets are meant."""
        return "" if self.scope == "*" else self.scope.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideGates:
    """Runs what is missing and decides."""

    sets: GoldenSets
    gates: Gates
    search: Search
    variants: Variants
    runs: RunVariant
    prices: Prices
    now: Clock = utc_now

    async def candidate(self, asked: Candidacy) -> Gate:
        """The verdict on a candidate, stored and told once. Raises Transient when a service is away: ask again."""
        again = [str(asked.revision)] if asked.revision > 1 else []
        known = gate_id(asked.candidate_id, *again)
        if (decided := await self.gates.decided(known)) is not None:
            return decided
        checks = await self._checks(asked.tenant, "", asked.baseline, asked.candidate, asked.spec)
        passed, reason = verdict(checks)
        return await self.gates.decide(
            Gate(
                gate_id=known,
                candidate_id=asked.candidate_id,
                scope=asked.scope,
                baseline_variant_id=asked.baseline.variant_id,
                candidate_variant_id=asked.candidate.variant_id,
                passed=passed,
                checks=checks,
                reason=reason,
                decided_at=self.now(),
            )
        )

    async def by_hand(
        self, *, tenant: str, corpus: str, baseline_variant_id: str, candidate_variant_id: str, spec: GateSpec
    ) -> Gate:
        """The verdict on two variants. Raises Invalid for a gate that cannot be, NotFound for what is not there."""
        if not tenant:
            raise Invalid("is empty", field="tenant")
        if spec.fault:
            raise Invalid(spec.fault, field="gate")
        baseline = await self.variants.variant(baseline_variant_id)
        candidate = await self.variants.variant(candidate_variant_id)
        for name in spec.datasets:
            await self.sets.latest(tenant, name)
        checks = await self._checks(tenant, corpus, baseline, candidate, spec)
        passed, reason = verdict(checks)
        at = self.now()
        return await self.gates.decide(
            Gate(
                gate_id=gate_id(tenant, corpus, baseline_variant_id, candidate_variant_id, at.isoformat()),
                candidate_id="",
                scope=f"{tenant}/{corpus}" if corpus else tenant,
                baseline_variant_id=baseline_variant_id,
                candidate_variant_id=candidate_variant_id,
                passed=passed,
                checks=checks,
                reason=reason,
                decided_at=at,
            )
        )

    async def _checks(
        self, tenant: str, corpus: str, baseline: Variant, candidate: Variant, spec: GateSpec
    ) -> Sequence[Check]:
        fault = spec.fault or ("" if tenant else "the scope * names no tenant, and golden sets are a tenant's")
        if fault:
            return [_failed(spec, "", fault)]
        found: list[Check] = []
        for name in spec.datasets:
            try:
                golden = await self.sets.latest(tenant, name)
                found += await self._on(golden, corpus, baseline, candidate, spec)
            except NotFound as missing:
                found.append(_failed(spec, name, str(missing)))
            except Transient:
                raise
            except Fault as failed:
                found.append(_failed(spec, name, str(failed)))
        return found

    async def _on(
        self, golden: GoldenSet, corpus: str, baseline: Variant, candidate: Variant, spec: GateSpec
    ) -> Sequence[Check]:
        before = await self.runs.finished(golden, baseline, corpus=corpus, answers=spec.answers)
        after = await self.runs.finished(golden, candidate, corpus=corpus, answers=spec.answers)
        checks = await asyncio.to_thread(judge, spec, golden, before, after)
        if spec.cost_ratio > 0:
            checks.append(judge_cost(spec, golden, before, after, prices=self.prices))
        pairs = await self._timed(golden, corpus, baseline, candidate, skip=0)
        latency = judge_latency(spec, golden.name, pairs)
        if not latency.passed:
            pairs += await self._timed(golden, corpus, baseline, candidate, skip=PROBES)
            latency = judge_latency(spec, golden.name, pairs)
        return [*checks, latency]

    async def _timed(
        self, golden: GoldenSet, corpus: str, baseline: Variant, candidate: Variant, *, skip: int
    ) -> list[tuple[float, float]]:
        """Seconds of both variants for the same questions, one after the other: what else runs here slows both."""
        pairs: list[tuple[float, float]] = []
        for place in range(skip, skip + PROBES):
            question = golden.questions[place % len(golden.questions)]
            times: list[float] = []
            order = (baseline, candidate) if place % 2 else (candidate, baseline)
            for variant in order:
                found = await self.search.find(
                    tenant=golden.tenant,
                    corpus=corpus or golden.corpus,
                    query=question.text,
                    variant=variant,
                    depth=DEPTH,
                )
                check_applied(variant, found)
                times.append(found.latency.total_seconds())
            pairs.append((times[0], times[1]) if place % 2 else (times[1], times[0]))
        return pairs


def _failed(spec: GateSpec, dataset: str, reason: str) -> Check:
    return Check(name=spec.metric, dataset=dataset, passed=False, reason=reason)
