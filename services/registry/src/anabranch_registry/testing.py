"""Public test doubles: the ledgers in memory."""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from anabranch_registry.application import Candidates, Experiments, TakeDecision, TakeGate, TakeTrained
from anabranch_registry.application.loop import ExperimentWasDecided, GateWasDecided, Trained
from anabranch_registry.application.ports import K, Ledger, Listing, Thing, Told, listed_under
from anabranch_registry.domain import Change, Routing, Variant
from anabranch_registry.domain.artifacts import Dataset, Gate, Model, ModelKind
from anabranch_registry.domain.experiments import Phase
from anabranch_registry.domain.notes import Link, Note
from anabranch_registry.domain.spending import By, Costs, Spent, Usage
from anabranch_registry.domain.stream.loop import Decision

__all__ = ["MemoryBooks", "MemoryCostBook", "MemoryLedger", "Story", "model"]


@dataclass
class MemoryBooks:
    """As the port says; `told` holds everything in the order in which it was told."""

    told: list[Told] = field(default_factory=list)
    kept: dict[str, Variant] = field(default_factory=dict)
    routings: dict[str, list[Routing]] = field(default_factory=dict)
    things: dict[tuple[str, str], Thing] = field(default_factory=dict)
    written: list[Note] = field(default_factory=list)
    led: dict[Link, None] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)

    async def claim(self, event_id: str) -> bool:
        """As in the port."""
        fresh = event_id not in self.claimed
        self.claimed.add(event_id)
        return fresh

    async def variants(self, ids: Iterable[str]) -> dict[str, Variant]:
        """As in the port."""
        return {one: self.kept[one] for one in ids if one in self.kept}

    async def page_of_variants(self, *, count: int, before: int = 0) -> Listing[Variant]:
        """As in the port."""
        return _page(list(enumerate(self.kept.values(), start=1)), count, before)

    async def keep(self, variant: Variant, change: Change) -> None:  # noqa: ARG002  the port's signature
        """As in the port."""
        self.kept[variant.variant_id] = variant

    async def routing(self, scope: str, revision: int = 0) -> Routing | None:
        """As in the port."""
        revisions = self.routings.get(scope, [])
        if revision:
            return next((one for one in revisions if one.revision == revision), None)
        return revisions[-1] if revisions else None

    async def scopes(self) -> Sequence[str]:
        """As in the port."""
        return sorted(self.routings)

    async def route(self, routing: Routing) -> None:
        """As in the port."""
        self.routings.setdefault(routing.scope, []).append(routing)

    async def find(self, kind: type[K], key: str) -> K | None:
        """As in the port."""
        found: Any = self.things.get((kind.noun, key))
        return found if isinstance(found, kind) else None

    async def page(
        self, kind: type[K], *, scope: str = "", live: bool = False, count: int, before: int = 0
    ) -> Listing[K]:
        """As in the port."""
        rows = [
            (number, thing)
            for number, thing in enumerate(self.things.values(), start=1)
            if isinstance(thing, kind)
            and (not scope or listed_under(thing) == scope)
            and (not live or getattr(thing, "live", False))
        ]
        return _page(rows, count, before)

    async def put(self, thing: Thing) -> None:
        """As in the port."""
        self.things[thing.noun, thing.key] = thing

    async def note(self, notes: Iterable[Note]) -> None:
        """As in the port."""
        for one in notes:
            self.written.append(replace(one, number=len(self.written) + 1))

    async def page_of_notes(
        self, *, scope: str = "", subject: str = "", since: datetime | None = None, count: int, before: int = 0
    ) -> Listing[Note]:
        """As in the port."""
        rows = [
            (one.number, one)
            for one in self.written
            if scope in ("", one.scope) and subject in ("", one.subject) and (since is None or one.at >= since)
        ]
        return _page(rows, count, before)

    async def link(self, links: Iterable[Link]) -> None:
        """As in the port."""
        self.led.update(dict.fromkeys(links))

    async def links(self, ids: Iterable[str], *, up: bool) -> Sequence[Link]:
        """As in the port."""
        wanted = set(ids)
        return [link for link in self.led if (link.target if up else link.source) in wanted]

    async def tell(self, told: Told) -> None:
        """As in the port."""
        self.told.append(told)


class MemoryLedger:
    """As the port says."""

    def __init__(self) -> None:
        """Begins empty."""
        self.books = MemoryBooks()
        self._lock = asyncio.Lock()

    @property
    def told(self) -> list[Any]:
        """Everything in the order in which it was told."""
        return list(self.books.told)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[MemoryBooks]:
        """As in the port."""
        async with self._lock:
            # Entries are immutable: copies of the containers are all it takes to go back.
            before = MemoryBooks(**{name: copy.copy(value) for name, value in vars(self.books).items()})
            before.routings = {scope: list(revisions) for scope, revisions in before.routings.items()}
            try:
                yield self.books
            except BaseException:
                self.books = before
                raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[MemoryBooks]:
        """As in the port."""
        yield self.books


class MemoryCostBook:
    """As the port says: every call is kept, and looked at each time."""

    def __init__(self) -> None:
        """Begins empty."""
        self.calls: list[Usage] = []
        self.named: dict[str, datetime] = {}

    async def add(self, calls: Sequence[Usage]) -> int:
        """As in the port."""
        fresh = list({one.usage_id: one for one in calls if one.usage_id not in self.named}.values())
        self.calls += fresh
        self.named.update((one.usage_id, one.metered_at) for one in fresh)
        return len(fresh)

    async def sums(self, by: Sequence[By], *, since: datetime, until: datetime, tenant: str, most: int) -> Costs:
        """As in the port."""
        first, last = (at.replace(minute=0, second=0, microsecond=0) for at in (since, until))
        groups: dict[tuple[str, ...], list[Usage]] = {}
        for one in self.calls:
            hour = one.metered_at.replace(minute=0, second=0, microsecond=0)
            if first <= hour <= last and tenant in ("", one.tenant):
                groups.setdefault(tuple(_told_apart(one, which) for which in by), []).append(one)
        rows = sorted(
            (_spent(group, calls) for group, calls in groups.items()),
            key=lambda row: (-row.cost_micros, -row.calls, row.group),
        )
        total = _spent((), [one for calls in groups.values() for one in calls])
        return Costs(rows=rows[:most], total=total, left_out=max(len(rows) - most, 0))

    async def forget(self, *, before: datetime) -> int:
        """As in the port."""
        old = [name for name, at in self.named.items() if at.date() < before.date()]
        for name in old:
            del self.named[name]
        return len(old)


def _told_apart(one: Usage, by: By) -> str:
    return {
        By.TENANT: one.tenant,
        By.KEY: one.key_id,
        By.USER: one.user_id,
        By.VARIANT: one.variant_id,
        By.MODEL: one.model or one.backend,
        By.DAY: one.metered_at.date().isoformat(),
        By.PURPOSE: one.purpose,
    }[by]


def _spent(group: tuple[str, ...], calls: Sequence[Usage]) -> Spent:
    return Spent(
        group=group,
        calls=len(calls),
        unpriced_calls=sum(one.cost_micros is None for one in calls),
        prompt_tokens=sum(one.prompt_tokens for one in calls),
        completion_tokens=sum(one.completion_tokens for one in calls),
        cost_micros=sum(one.cost_micros or 0 for one in calls),
    )


def model(seed: str, *, kind: ModelKind = ModelKind.RERANKER, dataset: str = "") -> Model:
    """Return a model's entry; its digest is the seed's."""
    digest = hashlib.sha256(seed.encode()).hexdigest()
    return Model(
        model_version=Model.named(kind, digest),
        kind=kind,
        digest=digest,
        format="safetensors",
        algorithm="logistic",
        dataset_version=dataset,
        created_at=datetime(2026, 11, 21, tzinfo=UTC),
    )


class Story:
    """Plays training and evaluation for a scope: what they would tell, in as few words."""

    def __init__(self, ledger: Ledger, scope: str = "acme/docs") -> None:
        """Takes a ledger that is opened."""
        self.ledger, self.scope = ledger, scope
        self.candidates, self.experiments = Candidates(ledger), Experiments(ledger)
        self._number = 0

    async def train(self, run_id: str, seed: str, *, withheld: bool = False) -> str:
        """Tell of a trained reranker; return the candidate's id."""
        digest = hashlib.sha256(f"data {seed}".encode()).hexdigest()
        dataset = Dataset(
            dataset_version=f"ds-{digest[:12]}",
            kind="RANKING",
            digest=digest,
            created_at=datetime(2026, 11, 21, tzinfo=UTC),
        )
        trained = Trained(
            run_id=run_id,
            scope=self.scope,
            model=model(seed, dataset=dataset.dataset_version),
            dataset=dataset,
            author="service:training",
            reason="enough feedback",
            withheld=withheld,
        )
        return await TakeTrained(self.ledger)(trained, event_id=self._event())

    async def gate(self, candidate_id: str, *, passed: bool = True, base: str = "") -> None:
        """Tell of a gate's verdict, against the candidate's base or against another variant."""
        candidate = await self.candidates.get(candidate_id)
        gate = Gate(
            gate_id=f"ga-{candidate_id[3:]}",
            candidate_id=candidate_id,
            passed=passed,
            reason="as measured",
            decided_at=datetime(2026, 11, 21, tzinfo=UTC),
        )
        decided = GateWasDecided(
            gate=gate,
            scope=self.scope,
            baseline_variant_id=base or candidate.base.variant_id,
            candidate_variant_id=candidate.variant.variant_id,
        )
        await TakeGate(self.ledger)(decided, event_id=self._event())

    async def decide(self, candidate_id: str, decision: Decision, *, arm: str = "", phase: Phase | None = None) -> None:
        """Tell of a decision about the present phase of the candidate's experiment, or about another."""
        candidate = await self.candidates.get(candidate_id)
        experiment = await self.experiments.get(candidate.experiment_id)
        decided = ExperimentWasDecided(
            experiment_id=experiment.experiment_id,
            phase=phase or experiment.phase,
            phase_revision=experiment.phase_revision,
            decision=decision,
            arm=arm,
            reason="as measured",
        )
        await TakeDecision(self.ledger)(decided, event_id=self._event())

    def _event(self) -> str:
        self._number += 1
        return f"{self.scope} {self._number}"


def _page(rows: list[tuple[int, Any]], count: int, before: int) -> Listing[Any]:
    newest = [(number, one) for number, one in reversed(rows) if not before or number < before]
    following = newest[count - 1][0] if len(newest) > count else 0
    return Listing(found=[one for _, one in newest[:count]], following=following)
