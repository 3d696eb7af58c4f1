"""What the events of training and evaluation do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from anabranch_faults import Transient
from anabranch_registry.application.models import register
from anabranch_registry.application.ports import Books, Clock, Ledger, utc_now
from anabranch_registry.application.streams import changing
from anabranch_registry.application.variants import keep
from anabranch_registry.domain import Variant, checked_change, checked_scope
from anabranch_registry.domain.artifacts import Dataset, Gate, Model, ModelKind
from anabranch_registry.domain.candidates import Candidate, candidate_id_of
from anabranch_registry.domain.experiments import Experiment, Phase
from anabranch_registry.domain.faults import Stale
from anabranch_registry.domain.notes import Link
from anabranch_registry.domain.routing import Change
from anabranch_registry.domain.stream.loop import Decision

__all__ = [
    "EndHoldouts",
    "ExperimentWasDecided",
    "GateWasDecided",
    "TakeDecision",
    "TakeGate",
    "TakeTrained",
    "Trained",
]

_SERVICE = "service:registry"
_EVALUATION = "service:evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model that may become a variant."""

    run_id: str
    scope: str
    model: Model
    dataset: Dataset | None
    author: str
    reason: str
    withheld: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateWasDecided:
    """The verdict on a candidate."""

    gate: Gate
    scope: str
    baseline_variant_id: str
    candidate_variant_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentWasDecided:
    """What an experiment has shown in a phase."""

    experiment_id: str
    phase: Phase
    phase_revision: int
    decision: Decision
    arm: str
    weights: Mapping[str, int] = field(default_factory=dict)
    reason: str


@dataclass(frozen=True, slots=True)
class TakeTrained:
    """Registers what was trained, and puts it on its way."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self, trained: Trained, *, event_id: str) -> str:
        """Return the candidate's id; empty when there is none. Raises Invalid for what cannot be registered."""
        checked_scope(trained.scope)
        change = checked_change(
            author=trained.author or "service:training", reason=trained.reason or "trained", at=self.now()
        )
        async with self.ledger.writing() as books:
            if not await books.claim(event_id):
                return ""
            if trained.dataset is not None:
                await register(books, trained.dataset, change, scope=trained.scope)
            await register(books, trained.model, change, scope=trained.scope)
            async with changing(books, trained.scope, change) as stream:
                base = stream.serving
                variant = _with_model(base, trained.model)
                if variant is None:
                    stream.note("model", trained.model.key, "registered; not for traffic as it is served now", change)
                    return ""
                variant = await keep(books, variant, change, scope=trained.scope)
                candidate_id = candidate_id_of(trained.run_id, trained.scope)
                if trained.withheld or await books.find(Candidate, candidate_id) is not None:
                    return ""
                stream.arrive(
                    Candidate(
                        candidate_id=candidate_id,
                        scope=trained.scope,
                        model_version=trained.model.model_version,
                        dataset_version=trained.model.dataset_version,
                        base=base,
                        variant=variant,
                        reason=change.reason,
                        author=change.author,
                        created_at=change.at,
                        changed_at=change.at,
                    ),
                    change,
                )
            return candidate_id


def _with_model(base: Variant, model: Model) -> Variant | None:
    """Return what the base would be with the model; None where the model serves no traffic."""
    described = f"{base.description[:800]}; with {model.kind.lower()} {model.model_version}"
    if model.kind is ModelKind.RERANKER:
        retrieval = replace(base.retrieval, reranker_version=model.model_version)
        return replace(base, description=described, retrieval=retrieval).completed()
    if model.kind is ModelKind.ADAPTER and base.generation.backend not in ("", "extractive"):
        generation = replace(base.generation, adapter=model.model_version)
        return replace(base, description=described, generation=generation).completed()
    return None


@dataclass(frozen=True, slots=True)
class TakeGate:
    """Lets a candidate through its gate, or not."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self, decided: GateWasDecided, *, event_id: str) -> None:
        """Raises Stale when the candidate is past its gate."""
        reason = (
            f"gate {decided.gate.gate_id}: {decided.gate.reason or ('passed' if decided.gate.passed else 'failed')}"
        )
        change = Change(author=_EVALUATION, reason=reason[:2000], at=self.now())
        async with self.ledger.writing() as books:
            if not await books.claim(event_id):
                return
            await _keep_gate(books, decided)
            if not decided.gate.candidate_id:
                return
            candidate = await books.find(Candidate, decided.gate.candidate_id)
            if candidate is None:
                raise Stale(f"there is no candidate {decided.gate.candidate_id}", field="candidate_id")
            if candidate.variant.variant_id != decided.candidate_variant_id:
                raise Stale(
                    f"the gate looked at {decided.candidate_variant_id}, not at {candidate.variant.variant_id}",
                    field="candidate_variant_id",
                )
            if candidate.base.variant_id != decided.baseline_variant_id:
                raise Stale(
                    f"the gate compared with {decided.baseline_variant_id}, not with {candidate.base.variant_id}",
                    field="baseline_variant_id",
                )
            async with changing(books, candidate.scope, change) as stream:
                stream.gated(candidate.candidate_id, passed=decided.gate.passed, change=change)
                what = "passed" if decided.gate.passed else "failed"
                stream.note("gate", decided.gate.gate_id, f"{what} by {candidate.candidate_id}", change)


async def _keep_gate(books: Books, decided: GateWasDecided) -> None:
    gate = decided.gate
    await books.put(gate)
    sources = [gate.candidate_id, decided.baseline_variant_id, decided.candidate_variant_id]
    await books.link(Link(source=source, target=gate.gate_id, how="gated") for source in sources if source)


@dataclass(frozen=True, slots=True)
class TakeDecision:
    """Moves an experiment by what it has shown."""

    ledger: Ledger
    now: Clock = utc_now

    async def __call__(self, decided: ExperimentWasDecided, *, event_id: str) -> None:
        """Raises Stale when the phase has passed."""
        change = Change(author=_EVALUATION, reason=(decided.reason or decided.decision)[:2000], at=self.now())
        async with self.ledger.writing() as books:
            if not await books.claim(event_id):
                return
            experiment = await books.find(Experiment, decided.experiment_id)
            if experiment is None:
                raise Stale(f"there is no experiment {decided.experiment_id}", field="experiment_id")
            async with changing(books, experiment.scope, change) as stream:
                stream.decided(
                    decided.experiment_id,
                    phase=decided.phase,
                    phase_revision=decided.phase_revision,
                    decision=decided.decision,
                    arm=decided.arm,
                    weights=decided.weights,
                    change=change,
                )


@dataclass(frozen=True, slots=True)
class EndHoldouts:
    """Settles promotions whose holdout is over."""

    ledger: Ledger
    sleep: Callable[[float], Awaitable[object]]
    every: timedelta = timedelta(seconds=1)
    now: Clock = utc_now

    async def once(self) -> int:
        """Settle those whose time is over; return how many."""
        async with self.ledger.reading() as books:
            running = await books.page(Experiment, live=True, count=10_000)
        due = [
            one
            for one in running.found
            if one.phase is Phase.HOLDOUT and one.holdout_until is not None and one.holdout_until <= self.now()
        ]
        settled = 0
        for one in due:
            change = Change(author=_SERVICE, reason="the holdout is over without a breach", at=self.now())
            try:
                async with self.ledger.writing() as books, changing(books, one.scope, change) as stream:
                    if stream.experiment is not None and stream.experiment.experiment_id == one.experiment_id:
                        stream.expire(change.at, change)
                        settled += 1
            except Stale:
                continue  # Another replica, or a person, was faster.
        return settled

    async def run(self) -> None:
        """Look round until cancelled; outages are waited out."""
        while True:
            with suppress(Transient):
                await self.once()
            await self.sleep(self.every.total_seconds())
