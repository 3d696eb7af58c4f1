"""The ledger in SQL; what is decided there leaves through the outbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_faults import Conflict, NotFound
from anabranch_registry.adapters.tables import ROUTING_CHANGES, ROUTINGS, VARIANTS
from anabranch_registry.application import Page
from anabranch_registry.domain import Change, Routing, Share, Variant
from anabranch_store import Database, Encoded, Outbox

__all__ = ["SqlLedger"]


class SqlLedger:
    """As the port says. `encode` makes the event that tells a routing."""

    def __init__(self, database: Database, *, encode: Callable[[Routing], Encoded]) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode

    async def store(self, variant: Variant, change: Change) -> Variant:
        """As in the port."""
        async with self._database.transaction() as tx:
            row = {
                "variant_id": variant.variant_id,
                "description": variant.description,
                "bundle": variant.canonical(),
                "author": change.author,
                "reason": change.reason,
                "created_at": change.at,
            }
            await tx.execute(_insert(tx)(VARIANTS).values(row).on_conflict_do_nothing())
            kept = await _variants(tx, [variant.variant_id])
        return kept[variant.variant_id]

    async def variant(self, variant_id: str) -> Variant | None:
        """As in the port."""
        async with self._database.reading() as tx:
            return (await _variants(tx, [variant_id])).get(variant_id)

    async def variants(self, *, count: int, before: int = 0) -> Page:
        """As in the port."""
        statement = select(VARIANTS).order_by(VARIANTS.c.number.desc()).limit(count + 1)
        if before:
            statement = statement.where(VARIANTS.c.number < before)
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement)).all()
        shown = rows[:count]
        return Page(
            variants=[_variant(row) for row in shown], following=shown[-1].number if len(rows) > len(shown) else 0
        )

    async def routing(self, scope: str) -> Routing | None:
        """As in the port."""
        async with self._database.reading() as tx:
            return await _routing(tx, scope)

    async def move(self, scope: str, weights: Mapping[str, int], *, expected: int, change: Change) -> Routing:
        """As in the port."""
        async with self._database.transaction() as tx:
            await _swap(tx, scope, expected)
            variants = await _variants(tx, weights)
            for variant_id in weights:
                if variant_id not in variants:
                    raise NotFound(f"there is no variant {variant_id}", field=f"weights[{variant_id}]")
            row = {
                "scope": scope,
                "revision": expected + 1,
                "weights": json.dumps(dict(weights), sort_keys=True),
                "author": change.author,
                "reason": change.reason,
                "changed_at": change.at,
            }
            await tx.execute(insert(ROUTING_CHANGES).values(row))
            shares = tuple(Share(variant=variants[key], weight=weight) for key, weight in sorted(weights.items()))
            routing = Routing(scope=scope, revision=expected + 1, shares=shares, change=change)
            await Outbox.add(tx, self._encode(routing))
        return routing

    async def retell(self) -> int:
        """As in the port. A scope's row is locked while it is told, so that no older routing is told after a newer."""
        async with self._database.reading() as tx:
            scopes = list((await tx.execute(select(ROUTINGS.c.scope).order_by(ROUTINGS.c.scope))).scalars())
        for scope in scopes:
            async with self._database.transaction() as tx:
                await tx.execute(select(ROUTINGS).where(ROUTINGS.c.scope == scope).with_for_update())
                routing = await _routing(tx, scope)
                if routing is not None:
                    await Outbox.add(tx, self._encode(routing))
        return len(scopes)


async def _swap(tx: AsyncSession, scope: str, expected: int) -> None:
    """Take the scope from revision `expected` to the next. Raises Conflict when it stands elsewhere."""
    if expected == 0:
        inserted = _insert(tx)(ROUTINGS).values(scope=scope, revision=1).on_conflict_do_nothing()
        moved = await tx.execute(inserted.returning(ROUTINGS.c.revision))
    else:
        updated = update(ROUTINGS).where(ROUTINGS.c.scope == scope, ROUTINGS.c.revision == expected)
        moved = await tx.execute(updated.values(revision=expected + 1).returning(ROUTINGS.c.revision))
    if moved.first() is None:
        present = await tx.scalar(select(ROUTINGS.c.revision).where(ROUTINGS.c.scope == scope))
        stands = f"at revision {present}" if present else "not routed yet (revision 0)"
        raise Conflict(
            f"{scope} is {stands}, not at {expected}: look at it again, then decide",
            field="expected_revision",
            reason="REVISION_MOVED",
        )


async def _routing(tx: AsyncSession, scope: str) -> Routing | None:
    statement = (
        select(ROUTING_CHANGES)
        .join(
            ROUTINGS,
            (ROUTINGS.c.scope == ROUTING_CHANGES.c.scope) & (ROUTINGS.c.revision == ROUTING_CHANGES.c.revision),
        )
        .where(ROUTINGS.c.scope == scope)
    )
    row = (await tx.execute(statement)).first()
    if row is None:
        return None
    weights: dict[str, int] = json.loads(row.weights)
    variants = await _variants(tx, weights)
    return Routing(
        scope=row.scope,
        revision=row.revision,
        shares=tuple(Share(variant=variants[key], weight=weight) for key, weight in sorted(weights.items())),
        change=Change(author=row.author, reason=row.reason, at=row.changed_at),
    )


async def _variants(tx: AsyncSession, ids: Mapping[str, int] | list[str]) -> dict[str, Variant]:
    rows = (await tx.execute(select(VARIANTS).where(VARIANTS.c.variant_id.in_(list(ids))))).all()
    return {row.variant_id: _variant(row) for row in rows}


def _variant(row: Row[Any]) -> Variant:
    return Variant.from_canonical(row.bundle, description=row.description)


def _insert(tx: AsyncSession) -> Callable[..., Any]:
    return postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
