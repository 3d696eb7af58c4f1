"""Keys at rest, in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from anabranch_gateway.adapters.tables import KEYS
from anabranch_gateway.domain.keys import Key
from anabranch_store import Database


class SqlKeys:
    """The Keys port. Holds digests, never keys."""

    def __init__(self, database: Database) -> None:
        """Takes the service's database."""
        self._database = database

    async def find(self, key_id: str) -> Key | None:
        """See the port."""
        async with self._database.reading() as tx:
            row = (await tx.execute(select(KEYS).where(KEYS.c.key_id == key_id))).one_or_none()
        return None if row is None else _key(row)

    async def add(self, key: Key) -> None:
        """See the port."""
        async with self._database.transaction() as tx:
            await tx.execute(
                insert(KEYS).values(
                    key_id=key.key_id,
                    tenant=key.tenant,
                    labels=json.dumps(sorted(key.labels)),
                    digest=key.digest,
                    note=key.note,
                    created_at=key.created_at,
                    revoked_at=key.revoked_at,
                )
            )

    async def of_tenant(self, tenant: str) -> Sequence[Key]:
        """See the port."""
        query = select(KEYS).where(KEYS.c.tenant == tenant).order_by(KEYS.c.created_at, KEYS.c.key_id)
        async with self._database.reading() as tx:
            return [_key(row) for row in await tx.execute(query)]

    async def revoke(self, key_id: str, *, at: datetime) -> bool:
        """See the port."""
        async with self._database.transaction() as tx:
            changed = await tx.execute(
                update(KEYS)
                .where(KEYS.c.key_id == key_id, KEYS.c.revoked_at.is_(None))
                .values(revoked_at=at)
                .returning(KEYS.c.key_id)
            )
            return changed.one_or_none() is not None


def _key(row: Row[Any]) -> Key:
    return Key(
        key_id=row.key_id,
        tenant=row.tenant,
        labels=frozenset(json.loads(row.labels)),
        digest=row.digest,
        note=row.note,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
