"""Exposures, opinions and decisions in SQL; what is decided leaves through the outbox."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from sqlalchemy import Integer, cast, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from anabranch_evaluation.adapters.tables import ARM_WEIGHTS, DECISIONS, EXPOSURES, LOOKS, OPINIONS, SAMPLE_RATIOS
from anabranch_evaluation.domain.costs import Cost
from anabranch_evaluation.domain.experiments import ArmSummary, Decision, Exposed, Opinion, Person, Phase, Verb
from anabranch_store import Database, Encoded, Outbox


class SqlObservations:
    """As the port says. `encode` makes the event that tells a decision."""

    def __init__(self, database: Database, *, encode: Callable[[Decision], Encoded]) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode
        self._insert: Any = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def judge(self, opinions: Sequence[Opinion]) -> None:
        """As in the port."""
        async with self._database.transaction() as tx:
            # In one order, so that two batches cannot wait for each other.
            for one in sorted(opinions, key=lambda one: (one.feedback_id, one.revision)):
                row = asdict(one)
                statement = self._insert(OPINIONS).values(row)
                statement = statement.on_conflict_do_update(
                    index_elements=["feedback_id"], set_=row, where=OPINIONS.c.revision < one.revision
                )
                await tx.execute(statement)

    async def exposed(self, experiment_id: str, *, since_revision: int, covariate: bool = False) -> Exposed:
        """As in the port."""
        here = (EXPOSURES.c.experiment_id == experiment_id) & (EXPOSURES.c.routing_revision >= since_revision)
        seen = (
            select(
                EXPOSURES.c.unit,
                EXPOSURES.c.arm,
                func.avg(EXPOSURES.c.latency).label("latency"),
                func.avg(cast(EXPOSURES.c.abstained, Integer)).label("abstained"),
                func.avg(EXPOSURES.c.groundedness).label("groundedness"),
                func.avg(EXPOSURES.c.citation_precision).label("citation_precision"),
                func.min(EXPOSURES.c.served_at).label("first"),
                func.avg(cast(EXPOSURES.c.blocked, Integer)).label("blocked"),
                func.avg(EXPOSURES.c.tokens).label("tokens"),
                func.avg(EXPOSURES.c.microdollars).label("microdollars"),
                (func.count(EXPOSURES.c.tokens) - func.count(EXPOSURES.c.microdollars)).label("unpriced"),
            )
            .where(here)
            .group_by(EXPOSURES.c.unit, EXPOSURES.c.arm)
        )
        by_kind = (
            select(EXPOSURES.c.unit, OPINIONS.c.answer_id, func.avg(OPINIONS.c.value).label("value"))
            .join(
                EXPOSURES,
                (EXPOSURES.c.tenant == OPINIONS.c.tenant) & (EXPOSURES.c.answer_id == OPINIONS.c.answer_id),
            )
            .where(here, OPINIONS.c.value.is_not(None))
            .group_by(EXPOSURES.c.unit, OPINIONS.c.answer_id, OPINIONS.c.kind)
        ).subquery()
        by_answer = select(by_kind.c.unit, func.avg(by_kind.c.value).label("value"))
        answers = by_answer.group_by(by_kind.c.unit, by_kind.c.answer_id).subquery()
        satisfied = select(answers.c.unit, func.avg(answers.c.value)).group_by(answers.c.unit)
        in_order = func.row_number().over(
            partition_by=EXPOSURES.c.unit,
            order_by=(EXPOSURES.c.routing_revision, EXPOSURES.c.served_at, EXPOSURES.c.answer_id),
        )
        ranked = select(EXPOSURES.c.routing_revision, EXPOSURES.c.arm, in_order.label("place")).where(here).subquery()
        dealt = (
            select(ranked.c.routing_revision, ranked.c.arm, func.count().label("people"))
            .where(ranked.c.place == 1)
            .group_by(ranked.c.routing_revision, ranked.c.arm)
        )
        async with self._database.reading() as tx:
            rows = (await tx.execute(seen)).all()
            first_seen: dict[int, dict[str, int]] = defaultdict(dict)
            for one in (await tx.execute(dealt)).all():
                first_seen[one.routing_revision][one.arm] = one.people
            values = {unit: float(value) for unit, value in (await tx.execute(satisfied)).all()}
            earlier = []
            if covariate:
                units = select(EXPOSURES.c.unit).where(here).distinct()
                asked = select(OPINIONS.c.asker, OPINIONS.c.served_at, OPINIONS.c.value)
                told = asked.where(OPINIONS.c.asker.in_(units), OPINIONS.c.value.is_not(None))
                earlier = list((await tx.execute(told)).all())
        arms = Counter(row.unit for row in rows)
        first = {row.unit: row.first for row in rows}
        known: dict[str, list[float]] = defaultdict(list)
        for asker, served_at, value in earlier:
            if served_at is not None and served_at < first[asker]:
                known[asker].append(value)
        return Exposed(
            people=[
                Person(
                    arm=row.arm,
                    latency=float(row.latency),
                    abstained=float(row.abstained),
                    satisfaction=values.get(row.unit),
                    groundedness=row.groundedness,
                    citation_precision=row.citation_precision,
                    before=fmean(known[row.unit]) if row.unit in known else None,
                    blocked=float(row.blocked),
                    cost=None
                    if row.tokens is None
                    else Cost(tokens=float(row.tokens), microdollars=None if row.unpriced else float(row.microdollars)),
                )
                for row in rows
                if arms[row.unit] == 1
            ],
            mixed=Counter(row.arm for row in rows if arms[row.unit] > 1),
            dealt=dict(first_seen),
        )

    async def weigh(self, experiment_id: str, revision: int, weights: Mapping[str, int]) -> None:
        """As in the port."""
        row = {"experiment_id": experiment_id, "routing_revision": revision, "weights": json.dumps(dict(weights))}
        async with self._database.transaction() as tx:
            await tx.execute(self._insert(ARM_WEIGHTS).values(row).on_conflict_do_nothing())

    async def weights(self, experiment_id: str, *, since_revision: int) -> Mapping[int, Mapping[str, int]]:
        """As in the port."""
        statement = select(ARM_WEIGHTS.c.routing_revision, ARM_WEIGHTS.c.weights).where(
            ARM_WEIGHTS.c.experiment_id == experiment_id, ARM_WEIGHTS.c.routing_revision >= since_revision
        )
        async with self._database.reading() as tx:
            return {revision: json.loads(weights) for revision, weights in (await tx.execute(statement)).all()}

    async def sample_ratio(self, experiment_id: str, phase_revision: int) -> float:
        """As in the port."""
        statement = select(SAMPLE_RATIOS.c.p_value).where(
            SAMPLE_RATIOS.c.experiment_id == experiment_id, SAMPLE_RATIOS.c.phase_revision == phase_revision
        )
        async with self._database.reading() as tx:
            found = await tx.scalar(statement)
        return 1.0 if found is None else float(found)

    async def keep_sample_ratio(self, experiment_id: str, phase_revision: int, p_value: float) -> None:
        """As in the port."""
        row = {"experiment_id": experiment_id, "phase_revision": phase_revision, "p_value": p_value}
        statement = self._insert(SAMPLE_RATIOS).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=["experiment_id", "phase_revision"], set_=row, where=SAMPLE_RATIOS.c.p_value > p_value
        )
        async with self._database.transaction() as tx:
            await tx.execute(statement)

    async def looks(self, experiment_id: str, phase_revision: int) -> Sequence[float]:
        """As in the port."""
        statement = select(LOOKS.c.fraction).where(
            LOOKS.c.experiment_id == experiment_id, LOOKS.c.phase_revision == phase_revision
        )
        async with self._database.reading() as tx:
            return list((await tx.execute(statement.order_by(LOOKS.c.number))).scalars())

    async def look(self, experiment_id: str, phase_revision: int, fraction: float) -> None:
        """As in the port."""
        row = {"experiment_id": experiment_id, "phase_revision": phase_revision, "fraction": fraction}
        async with self._database.transaction() as tx:
            await tx.execute(insert(LOOKS).values(row))

    async def decisions(self, experiment_id: str) -> Sequence[Decision]:
        """As in the port."""
        statement = select(DECISIONS).where(DECISIONS.c.experiment_id == experiment_id).order_by(DECISIONS.c.number)
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement)).all()
        found: list[Decision] = []
        for row in rows:
            kept: dict[str, Any] = json.loads(row.decision)
            found.append(
                Decision(
                    experiment_id=row.experiment_id,
                    phase=Phase(kept["phase"]),
                    phase_revision=row.phase_revision,
                    verb=Verb(kept["verb"]),
                    arm=kept["arm"],
                    weights=kept["weights"],
                    arms=[ArmSummary(**arm) for arm in kept["arms"]],
                    reason=kept["reason"],
                    decided_at=row.decided_at,
                    discriminator=row.discriminator,
                )
            )
        return found

    async def decide(self, decision: Decision) -> bool:
        """As in the port."""
        kept = {
            "phase": decision.phase.value,
            "verb": decision.verb.value,
            "arm": decision.arm,
            "weights": dict(decision.weights),
            "arms": [asdict(arm) for arm in decision.arms],
            "reason": decision.reason,
        }
        row = {
            "experiment_id": decision.experiment_id,
            "phase_revision": decision.phase_revision,
            "discriminator": decision.discriminator,
            "decision": json.dumps(kept),
            "decided_at": decision.decided_at,
        }
        async with self._database.transaction() as tx:
            statement = self._insert(DECISIONS).values(row).on_conflict_do_nothing()
            if (await tx.execute(statement.returning(DECISIONS.c.number))).first() is None:
                return False
            await Outbox.add(tx, self._encode(decision))
        return True
