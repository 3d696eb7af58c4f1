"""Runs in SQL."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, insert, select, update

from anabranch_evaluation.adapters.tables import RUNS
from anabranch_evaluation.domain.costs import Usage
from anabranch_evaluation.domain.runs import Metric, Run, RunKey, RunState, Scored
from anabranch_faults import NotFound
from anabranch_store import Database

_LIGHT = [column for column in RUNS.c if column.name != "scores"]


class SqlRuns:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database

    async def begin(self, run: Run) -> None:
        """As in the port."""
        async with self._database.transaction() as tx:
            await tx.execute(insert(RUNS).values({**asdict(run.key), "run_id": run.run_id, **_state(run)}))

    async def progress(self, run_id: str, done: int) -> None:
        """As in the port."""
        async with self._database.transaction() as tx:
            await tx.execute(update(RUNS).where(RUNS.c.run_id == run_id).values(done=done))

    async def finish(self, run: Run) -> None:
        """As in the port."""
        async with self._database.transaction() as tx:
            await tx.execute(update(RUNS).where(RUNS.c.run_id == run.run_id).values(_state(run)))

    async def get(self, run_id: str) -> Run:
        """As in the port."""
        async with self._database.reading() as tx:
            row = (await tx.execute(select(RUNS).where(RUNS.c.run_id == run_id))).first()
        if row is None:
            raise NotFound(f"there is no run {run_id}", field="run_id")
        return _run(row, scores=row.scores)

    async def page(self, tenant: str, *, dataset: str, count: int, before: int) -> tuple[Sequence[Run], int]:
        """As in the port."""
        statement = select(*_LIGHT).where(RUNS.c.tenant == tenant).order_by(RUNS.c.number.desc()).limit(count + 1)
        if dataset:
            statement = statement.where(RUNS.c.dataset == dataset)
        if before:
            statement = statement.where(RUNS.c.number < before)
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement)).all()
        shown = rows[:count]
        return [_run(row) for row in shown], shown[-1].number if len(rows) > len(shown) else 0

    async def done(self, key: RunKey, *, index_generation: int) -> Run | None:
        """As in the port. The name of the golden set does not matter, its version does."""
        statement = (
            select(RUNS)
            .where(
                RUNS.c.tenant == key.tenant,
                RUNS.c.dataset_version == key.dataset_version,
                RUNS.c.variant_id == key.variant_id,
                RUNS.c.corpus == key.corpus,
                RUNS.c.answers == key.answers,
                # What one kind of run knows nothing of cannot tell two of them apart.
                *([RUNS.c.scorer == key.scorer] if key.answers else []),
                RUNS.c.index_generation == index_generation,
                RUNS.c.index_generation > 0,
                RUNS.c.state == RunState.DONE.value,
            )
            .order_by(RUNS.c.number.desc())
            .limit(1)
        )
        async with self._database.reading() as tx:
            row = (await tx.execute(statement)).first()
        return None if row is None else _run(row, scores=row.scores)

    async def beat(self, run_ids: Collection[str]) -> None:
        """As in the port."""
        statement = update(RUNS).where(RUNS.c.run_id.in_(sorted(run_ids))).values(beats=RUNS.c.beats + 1)
        async with self._database.transaction() as tx:
            await tx.execute(statement)

    async def running(self) -> Mapping[str, int]:
        """As in the port."""
        statement = select(RUNS.c.run_id, RUNS.c.beats).where(RUNS.c.state == RunState.RUNNING.value)
        async with self._database.reading() as tx:
            return {row.run_id: row.beats for row in (await tx.execute(statement)).all()}

    async def abandon(self, run_id: str, *, beats: int, problem: str) -> bool:
        """As in the port."""
        statement = update(RUNS).where(
            RUNS.c.run_id == run_id, RUNS.c.state == RunState.RUNNING.value, RUNS.c.beats == beats
        )
        async with self._database.transaction() as tx:
            result: Any = await tx.execute(statement.values(state=RunState.FAILED.value, problem=problem))
        return bool(result.rowcount)


def _state(run: Run) -> dict[str, Any]:
    scores = {
        key: [dict(one.scores), one.latency.total_seconds(), *_counted(one.usage)] for key, one in run.questions.items()
    }
    return {
        "index_generation": run.index_generation,
        "state": run.state.value,
        "problem": run.problem,
        "done": run.done,
        "total": run.total,
        "metrics": json.dumps([asdict(metric) for metric in run.metrics]),
        "scores": zlib.compress(json.dumps(scores, sort_keys=True).encode(), 3),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def _run(row: Row[Any], *, scores: bytes | None = None) -> Run:
    questions = {} if scores is None else json.loads(zlib.decompress(scores))
    return Run(
        run_id=row.run_id,
        key=RunKey(
            tenant=row.tenant,
            dataset=row.dataset,
            dataset_version=row.dataset_version,
            variant_id=row.variant_id,
            corpus=row.corpus,
            answers=row.answers,
            scorer=row.scorer if row.answers else "",
        ),
        state=RunState(row.state),
        started_at=row.started_at,
        index_generation=row.index_generation,
        problem=row.problem,
        done=row.done,
        total=row.total,
        metrics=[Metric(**one) for one in json.loads(row.metrics)],
        finished_at=row.finished_at,
        questions={
            key: Scored(scores=found, latency=timedelta(seconds=latency), usage=_usage(counted))
            for key, (found, latency, *counted) in questions.items()
        },
    )


def _counted(usage: Usage | None) -> list[Any]:
    return [] if usage is None else [usage.prompt_tokens, usage.completion_tokens, usage.model, usage.backend]


def _usage(counted: Sequence[Any]) -> Usage | None:
    if not counted:
        return None
    prompt, completion, model, backend = counted
    return Usage(prompt_tokens=prompt, completion_tokens=completion, model=model, backend=backend)
