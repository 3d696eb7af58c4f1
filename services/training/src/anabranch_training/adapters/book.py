"""The book in SQL; what a finished run made is told through the outbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, case, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_store import Database, Encoded, Inbox, Outbox
from anabranch_training.adapters import rows
from anabranch_training.adapters.tables import DATASETS, FEEDBACK, READINGS, RUNS, UNENDED, USES
from anabranch_training.application.ports import AUTOMATIC, Made, MadeDataset, Material, Runs, Supply
from anabranch_training.domain.ratings import GoldQuestion, Taken
from anabranch_training.domain.runs import Run

__all__ = ["SqlBook"]

_GROUP: Final = "training"
_AT_ONCE: Final = 500
_UNENDED_SHOWN: Final = 100
_OF_RUN: Final = [column for column in RUNS.c if column.name != "gold"]


class SqlBook:
    """As the port says. `encode` makes the event that tells a candidate."""

    def __init__(self, database: Database, *, encode: Callable[[Run, Made], Encoded]) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode

    async def take(self, ratings: Sequence[tuple[str, Taken]]) -> int:
        """As in the port."""
        async with self._database.transaction() as tx:
            fresh = await Inbox.claim(tx, _GROUP, [event_id for event_id, _ in ratings])
            highest: dict[tuple[str, str], Taken] = {}
            for event_id, one in ratings:
                key = (one.tenant, one.feedback_id)
                if event_id in fresh and (key not in highest or highest[key].revision < one.revision):
                    highest[key] = one
            changed = 0
            for some in _parts([rows.feedback_row(highest[key]) for key in sorted(highest)], 200):
                statement = _insert(tx)(FEEDBACK).values(some)
                given = {name: statement.excluded[name] for name in some[0] if name not in {"tenant", "feedback_id"}}
                statement = statement.on_conflict_do_update(
                    index_elements=["tenant", "feedback_id"],
                    set_=given,
                    where=FEEDBACK.c.revision < statement.excluded.revision,
                ).returning(FEEDBACK.c.feedback_id)
                changed += len((await tx.execute(statement)).all())
        return changed

    async def supply(self, tenant: str, corpus: str) -> Supply:
        """As in the port."""
        counted = _supplies().where(FEEDBACK.c.tenant == tenant, FEEDBACK.c.corpus == corpus)
        async with self._database.reading() as tx:
            row = (await tx.execute(counted)).first()
            last = await tx.scalar(_last_run(tenant, corpus))
        if row is None:
            return Supply(tenant=tenant, corpus=corpus, last_run_at=last)
        return Supply(**row._mapping, last_run_at=last)  # noqa: SLF001  how SQLAlchemy names it

    async def supplies(self) -> Sequence[Supply]:
        """As in the port."""
        async with self._database.reading() as tx:
            fresh = select(FEEDBACK.c.tenant, FEEDBACK.c.corpus).where(
                FEEDBACK.c.usable.is_(True), FEEDBACK.c.counted.is_(False)
            )
            places = (await tx.execute(fresh.distinct())).all()
        return [await self.supply(row.tenant, row.corpus) for row in places]

    async def material(self, run: Run, *, most: int) -> Material:
        """As in the port."""
        async with self._database.transaction() as tx:
            await _count(tx, run)
            return await _material(tx, run.tenant, run.corpus, _usable(run.tenant, run.corpus).limit(most))

    async def selection(self, tenant: str, corpus: str, since: datetime | None, until: datetime | None) -> Material:
        """As in the port."""
        chosen = _usable(tenant, corpus)
        if since is not None:
            chosen = chosen.where(FEEDBACK.c.given_at >= since)
        if until is not None:
            chosen = chosen.where(FEEDBACK.c.given_at < until)
        async with self._database.reading() as tx:
            return await _material(tx, tenant, corpus, chosen)

    async def queue(self, run: Run, gold: Sequence[GoldQuestion] = ()) -> Run | None:
        """As in the port. An index allows one automatic run of a corpus that has not ended."""
        row = {
            "run_id": run.run_id,
            "tenant": run.tenant,
            "corpus": run.corpus,
            "recipe": run.recipe.value,
            "trigger": run.trigger.value,
            "author": run.author,
            "reason": run.reason,
            "seed": run.seed,
            "reverse_labels": run.reverse_labels,
            "withheld": run.withheld,
            "queued_at": run.queued_at,
            **rows.run_row(run),
            "gold": rows.gold_text(gold),
        }
        async with self._database.transaction() as tx:
            await tx.execute(_insert(tx)(RUNS).values(row).on_conflict_do_nothing())
            kept = (await tx.execute(_runs().where(RUNS.c.run_id == run.run_id))).first()
            if kept is None:
                return None
            if run.trigger in AUTOMATIC:
                await _count(tx, run)
        return rows.run_from(kept, gold=kept.has_gold)

    async def gold(self, run_id: str) -> Sequence[GoldQuestion]:
        """As in the port."""
        async with self._database.reading() as tx:
            return rows.gold_from(await tx.scalar(select(RUNS.c.gold).where(RUNS.c.run_id == run_id)) or "")

    async def run(self, run_id: str) -> Run | None:
        """As in the port."""
        async with self._database.reading() as tx:
            row = (await tx.execute(_runs().where(RUNS.c.run_id == run_id))).first()
        return None if row is None else rows.run_from(row, gold=row.has_gold)

    async def runs(self, *, tenant: str, corpus: str, count: int, before: int = 0) -> Runs:
        """As in the port."""
        statement = _runs().order_by(RUNS.c.number.desc()).limit(count + 1)
        if tenant:
            statement = statement.where(RUNS.c.tenant == tenant)
        if corpus:
            statement = statement.where(RUNS.c.corpus == corpus)
        if before:
            statement = statement.where(RUNS.c.number < before)
        async with self._database.reading() as tx:
            found = (await tx.execute(statement)).all()
        shown = found[:count]
        return Runs(
            runs=[rows.run_from(row, gold=row.has_gold) for row in shown],
            following=shown[-1].number if len(found) > len(shown) else 0,
        )

    async def unfinished(self) -> Sequence[Run]:
        """As in the port."""
        waiting = case((RUNS.c.state == "queued", 1), else_=0)
        statement = _runs().where(RUNS.c.finished_at.is_(None)).order_by(waiting, RUNS.c.number).limit(_UNENDED_SHOWN)
        async with self._database.reading() as tx:
            return [rows.run_from(row, gold=row.has_gold) for row in (await tx.execute(statement)).all()]

    async def move(self, run: Run) -> bool:
        """As in the port."""
        async with self._database.transaction() as tx:
            return await _move(tx, run)

    async def finish(self, run: Run, made: Made, answers: frozenset[str]) -> bool:
        """As in the port."""
        async with self._database.transaction() as tx:
            if not await _move(tx, run):
                return False
            await _keep(tx, made.dataset, answers)
            if made.model is not None:
                await Outbox.add(tx, self._encode(run, made))
        return True

    async def keep(self, dataset: MadeDataset, answers: frozenset[str]) -> MadeDataset:
        """As in the port."""
        async with self._database.transaction() as tx:
            await _keep(tx, dataset, answers)
            kept = select(DATASETS).where(DATASETS.c.dataset_version == dataset.version)
            return rows.dataset_from((await tx.execute(kept)).one())

    async def uses(self, tenant: str, *, answer_id: str, corpus: str, document_id: str) -> Sequence[MadeDataset]:
        """As in the port."""
        kind, name = ("answer", answer_id) if answer_id else ("document", document_id)
        statement = (
            select(DATASETS)
            .join(USES, USES.c.dataset_version == DATASETS.c.dataset_version)
            .where(USES.c.kind == kind, USES.c.name == name, DATASETS.c.tenant == tenant)
            .order_by(DATASETS.c.created_at.desc())
        )
        if corpus:
            statement = statement.where(DATASETS.c.corpus == corpus)
        async with self._database.reading() as tx:
            return [rows.dataset_from(row) for row in (await tx.execute(statement)).all()]


def _supplies() -> Select[Any]:
    fresh = case((FEEDBACK.c.counted.is_(False), 1), else_=0)
    return (
        select(
            FEEDBACK.c.tenant,
            FEEDBACK.c.corpus,
            func.count().label("usable"),
            func.sum(fresh).label("fresh"),
            func.sum(FEEDBACK.c.positive).label("positive"),
            func.sum(FEEDBACK.c.negative).label("negative"),
        )
        .where(FEEDBACK.c.usable.is_(True))
        .group_by(FEEDBACK.c.tenant, FEEDBACK.c.corpus)
    )


def _last_run(tenant: str, corpus: str) -> Select[Any]:
    return (
        select(RUNS.c.queued_at)
        .where(
            RUNS.c.tenant == tenant,
            RUNS.c.corpus == corpus,
            RUNS.c.gold == "",
            RUNS.c.recipe == "reranker",
        )
        .order_by(RUNS.c.number.desc())
        .limit(1)
    )


def _usable(tenant: str, corpus: str) -> Select[Any]:
    return (
        select(FEEDBACK.c.judgments, FEEDBACK.c.answer_id)
        .where(FEEDBACK.c.tenant == tenant, FEEDBACK.c.corpus == corpus, FEEDBACK.c.usable.is_(True))
        .order_by(FEEDBACK.c.given_at.desc(), FEEDBACK.c.feedback_id)
    )


async def _count(tx: AsyncSession, run: Run) -> None:
    """What is fresh is so no longer."""
    for table in (FEEDBACK, READINGS):
        here = (table.c.tenant == run.tenant, table.c.corpus == run.corpus, table.c.counted.is_(False))
        await tx.execute(update(table).where(*here).values(counted=True))


async def _material(tx: AsyncSession, tenant: str, corpus: str, chosen: Select[Any]) -> Material:
    found = (await tx.execute(chosen)).all()
    here = (FEEDBACK.c.tenant == tenant, FEEDBACK.c.corpus == corpus)
    kept_out = [
        await tx.scalar(select(func.count()).select_from(FEEDBACK).where(*here, column.is_(True)))
        for column in (FEEDBACK.c.withdrawn, FEEDBACK.c.denied)
    ]
    return Material(
        judgments=[judgment for row in found for judgment in rows.judgments_from(row.judgments)],
        answers=frozenset(row.answer_id for row in found),
        feedback=len(found),
        withdrawn=kept_out[0] or 0,
        denied=kept_out[1] or 0,
    )


def _runs() -> Select[Any]:
    return select(*_OF_RUN, (RUNS.c.gold != "").label("has_gold"))


async def _move(tx: AsyncSession, run: Run) -> bool:
    statement = update(RUNS).where(RUNS.c.run_id == run.run_id, RUNS.c.state.in_(UNENDED))
    moved = await tx.execute(statement.values(rows.run_row(run)).returning(RUNS.c.run_id))
    return moved.first() is not None


async def _keep(tx: AsyncSession, dataset: MadeDataset, answers: frozenset[str]) -> None:
    row = {
        "dataset_version": dataset.version,
        "digest": dataset.digest,
        "tenant": dataset.tenant,
        "corpus": dataset.corpus,
        "counts": json.dumps(dict(dataset.counts), sort_keys=True),
        "first_at": dataset.first,
        "last_at": dataset.last,
        "datasheet": dataset.datasheet,
        "created_at": dataset.created_at,
        "kind": dataset.kind.value,
    }
    await tx.execute(_insert(tx)(DATASETS).values(row).on_conflict_do_nothing())
    names = [("answer", name) for name in sorted(answers) if name]
    names += [("document", name) for name in sorted(dataset.documents)]
    held = [{"dataset_version": dataset.version, "kind": kind, "name": name} for kind, name in names]
    for some in _parts(held, _AT_ONCE):
        await tx.execute(_insert(tx)(USES).values(some).on_conflict_do_nothing())


def _parts(given: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(given), size):
        yield given[start : start + size]


def _insert(tx: AsyncSession) -> Callable[..., Any]:
    return postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
