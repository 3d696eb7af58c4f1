"""Golden sets in SQL."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, insert, select

from anabranch_evaluation.adapters.tables import GOLDEN_SETS
from anabranch_evaluation.domain.golden import GoldenEntry, GoldenSet
from anabranch_faults import NotFound
from anabranch_store import Database


class SqlGoldenSets:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database

    async def put(self, golden: GoldenSet, *, author: str, at: datetime) -> None:
        """As in the port."""
        newest = (
            select(GOLDEN_SETS.c.version)
            .where(GOLDEN_SETS.c.tenant == golden.tenant, GOLDEN_SETS.c.name == golden.name)
            .order_by(GOLDEN_SETS.c.number.desc())
            .limit(1)
        )
        row = {
            "tenant": golden.tenant,
            "name": golden.name,
            "version": golden.version,
            "corpus": golden.corpus,
            "questions": len(golden.questions),
            "content": zlib.compress(golden.canonical(), 3),
            "author": author,
            "put_at": at,
        }
        async with self._database.transaction() as tx:
            if await tx.scalar(newest) != golden.version:
                await tx.execute(insert(GOLDEN_SETS).values(row))

    async def latest(self, tenant: str, name: str) -> GoldenSet:
        """As in the port."""
        statement = select(GOLDEN_SETS).where(GOLDEN_SETS.c.tenant == tenant, GOLDEN_SETS.c.name == name)
        return await self._one(statement, tenant, f"the tenant {tenant} has no golden set {name!r}: put one first")

    async def version(self, tenant: str, version: str) -> GoldenSet:
        """As in the port."""
        statement = select(GOLDEN_SETS).where(GOLDEN_SETS.c.tenant == tenant, GOLDEN_SETS.c.version == version)
        return await self._one(statement, tenant, f"the tenant {tenant} has no golden set of version {version}")

    async def entries(self, tenant: str) -> Sequence[GoldenEntry]:
        """As in the port."""
        numbers = select(func.max(GOLDEN_SETS.c.number)).where(GOLDEN_SETS.c.tenant == tenant)
        columns = [column for column in GOLDEN_SETS.c if column.name != "content"]
        statement = select(*columns).where(GOLDEN_SETS.c.number.in_(numbers.group_by(GOLDEN_SETS.c.name)))
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement.order_by(GOLDEN_SETS.c.name))).all()
        return [
            GoldenEntry(
                name=row.name, corpus=row.corpus, version=row.version, questions=row.questions, put_at=row.put_at
            )
            for row in rows
        ]

    async def _one(self, statement: Select[Any], tenant: str, missing: str) -> GoldenSet:
        newest = statement.order_by(GOLDEN_SETS.c.number.desc()).limit(1)
        async with self._database.reading() as tx:
            row = (await tx.execute(newest)).first()
        if row is None:
            raise NotFound(missing, field="dataset")
        return GoldenSet.from_canonical(zlib.decompress(row.content), tenant=tenant, name=row.name)
