"""Conversations, in the database: any replica may answer the next question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from anabranch_gateway.adapters.tables import SESSIONS
from anabranch_gateway.domain.questions import Role, Turn
from anabranch_store import Database

SWEEP_ROWS: Final = 1_000


class SqlSessions:
    """The Sessions port: `turns` and `characters` bound a session, `per_tenant` their number, `lasts` their life."""

    def __init__(
        self,
        database: Database,
        *,
        turns: int = 20,
        characters: int = 32_768,
        per_tenant: int = 10_000,
        lasts: timedelta = timedelta(minutes=30),
    ) -> None:
        """Takes the database and the bounds."""
        self._database = database
        self._turns = turns
        self._characters = characters
        self._per_tenant = per_tenant
        self._lasts = lasts

    async def load(self, tenant: str, session: bytes) -> Sequence[Turn]:
        """See the port."""
        query = select(SESSIONS.c.turns).where(
            SESSIONS.c.tenant == tenant, SESSIONS.c.session == session, SESSIONS.c.changed_at > self._oldest()
        )
        async with self._database.reading() as tx:
            row = (await tx.execute(query)).one_or_none()
        return () if row is None else _turns(row.turns)

    async def append(self, tenant: str, session: bytes, turns: Sequence[Turn]) -> None:
        """See the port."""
        try:
            await self._append(tenant, session, turns)
        except IntegrityError:  # another replica made the same new session first: add to that
            await self._append(tenant, session, turns)

    async def sweep(self) -> int:
        """Drops sessions that have expired, at most a thousand at once; returns how many."""
        expired = (
            select(SESSIONS.c.tenant, SESSIONS.c.session)
            .where(SESSIONS.c.changed_at <= self._oldest())
            .order_by(SESSIONS.c.changed_at)
            .limit(SWEEP_ROWS)
        )
        dropped = 0
        async with self._database.reading() as tx:
            rows = (await tx.execute(expired)).all()
        if not rows:
            return 0
        async with self._database.transaction() as tx:
            for row in rows:
                done = await tx.execute(
                    delete(SESSIONS)
                    .where(
                        SESSIONS.c.tenant == row.tenant,
                        SESSIONS.c.session == row.session,
                        SESSIONS.c.changed_at <= self._oldest(),
                    )
                    .returning(SESSIONS.c.tenant)
                )
                dropped += len(done.all())
        return dropped

    async def _append(self, tenant: str, session: bytes, turns: Sequence[Turn]) -> None:
        here = (SESSIONS.c.tenant == tenant) & (SESSIONS.c.session == session)
        now = datetime.now(tz=UTC)
        async with self._database.transaction() as tx:
            # Locked while it is read: of two answers at once in one session, neither may lose the other's turns.
            row = (await tx.execute(select(SESSIONS).where(here).with_for_update())).one_or_none()
            if row is not None:
                kept = _turns(row.turns) if row.changed_at > now - self._lasts else ()
                text = _text(self._bounded((*kept, *turns)))
                await tx.execute(update(SESSIONS).where(here).values(turns=text, changed_at=now))
                return
            number = await tx.scalar(select(func.count()).where(SESSIONS.c.tenant == tenant))
            if (excess := (number or 0) + 1 - self._per_tenant) > 0:
                oldest = (
                    select(SESSIONS.c.session)
                    .where(SESSIONS.c.tenant == tenant)
                    .order_by(SESSIONS.c.changed_at)
                    .limit(excess)
                )
                await tx.execute(delete(SESSIONS).where(SESSIONS.c.tenant == tenant, SESSIONS.c.session.in_(oldest)))
            text = _text(self._bounded(turns))
            await tx.execute(insert(SESSIONS).values(tenant=tenant, session=session, turns=text, changed_at=now))

    def _bounded(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        kept: list[Turn] = []
        left = self._characters
        for turn in reversed(turns[-self._turns :]):
            left -= len(turn.text)
            if left < 0:
                break
            kept.append(turn)
        return kept[::-1]

    def _oldest(self) -> datetime:
        return datetime.now(tz=UTC) - self._lasts


def _turns(text: str) -> tuple[Turn, ...]:
    return tuple(Turn(role=Role(role), text=said) for role, said in json.loads(text))


def _text(turns: Sequence[Turn]) -> str:
    return json.dumps([[int(turn.role), turn.text] for turn in turns], ensure_ascii=False)
