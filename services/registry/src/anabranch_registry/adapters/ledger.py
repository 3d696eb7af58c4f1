"""The ledger in SQL; what is decided there leaves through the outbox."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, get_args

from pydantic import TypeAdapter
from sqlalchemy import Row, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_registry.adapters.tables import CHANGES, ENTRIES, LINKS, ROUTING_CHANGES, ROUTINGS, VARIANTS
from anabranch_registry.application.ports import K, Listing, Thing, Told, listed_under
from anabranch_registry.domain import Change, Routing, Share, Variant
from anabranch_registry.domain.notes import Link, Note
from anabranch_store import Database, Encoded, Inbox, Outbox

__all__ = ["SqlBooks", "SqlLedger"]

_GROUP: Final = "registry"
_FORMS: Final[dict[type[Any], TypeAdapter[Any]]] = {kind: TypeAdapter(kind) for kind in get_args(Thing)}
_LOCK: Final = "select pg_advisory_xact_lock(hashtext(current_schema() || '.ledger'))"


class SqlLedger:
    """As the port says. `encode` makes the event that tells of something."""

    def __init__(self, database: Database, *, encode: Callable[[Told], Encoded]) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[SqlBooks]:
        """As in the port."""
        async with self._database.transaction() as tx:
            # Changes are rare and each looks at several rows: one after the other is simplest to be sure of.
            if tx.get_bind().dialect.name == "postgresql":
                await tx.execute(text(_LOCK))
            yield SqlBooks(tx, self._encode)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[SqlBooks]:
        """As in the port."""
        async with self._database.reading() as tx:
            yield SqlBooks(tx, self._encode)


class SqlBooks:
    """As the port says."""

    def __init__(self, tx: AsyncSession, encode: Callable[[Told], Encoded]) -> None:
        """Takes an open transaction."""
        self._tx = tx
        self._encode = encode
        self._insert: Callable[..., Any] = (
            postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
        )

    async def claim(self, event_id: str) -> bool:
        """As in the port."""
        return event_id in await Inbox.claim(self._tx, _GROUP, [event_id])

    async def variants(self, ids: Iterable[str]) -> dict[str, Variant]:
        """As in the port."""
        rows = (await self._tx.execute(select(VARIANTS).where(VARIANTS.c.variant_id.in_(list(ids))))).all()
        return {row.variant_id: _variant(row) for row in rows}

    async def page_of_variants(self, *, count: int, before: int = 0) -> Listing[Variant]:
        """As in the port."""
        return await self._page(select(VARIANTS), VARIANTS.c.number, count, before, _variant)

    async def keep(self, variant: Variant, change: Change) -> None:
        """As in the port."""
        row = {
            "variant_id": variant.variant_id,
            "description": variant.description,
            "bundle": variant.canonical(),
            "author": change.author,
            "reason": change.reason,
            "created_at": change.at,
        }
        await self._tx.execute(insert(VARIANTS).values(row))

    async def routing(self, scope: str, revision: int = 0) -> Routing | None:
        """As in the port."""
        statement = select(ROUTING_CHANGES).where(ROUTING_CHANGES.c.scope == scope)
        if revision:
            statement = statement.where(ROUTING_CHANGES.c.revision == revision)
        else:
            statement = statement.join(
                ROUTINGS,
                (ROUTINGS.c.scope == ROUTING_CHANGES.c.scope) & (ROUTINGS.c.revision == ROUTING_CHANGES.c.revision),
            )
        row = (await self._tx.execute(statement)).first()
        if row is None:
            return None
        shares = _shares(row.weights)
        variants = await self.variants(share[0] for share in shares)
        return Routing(
            scope=row.scope,
            revision=row.revision,
            shares=tuple(
                Share(variant=variants[one], weight=weight, experiment_id=experiment_id, arm=arm)
                for one, weight, experiment_id, arm in shares
            ),
            change=Change(author=row.author, reason=row.reason, at=row.changed_at),
        )

    async def scopes(self) -> Sequence[str]:
        """As in the port."""
        return list((await self._tx.execute(select(ROUTINGS.c.scope).order_by(ROUTINGS.c.scope))).scalars())

    async def route(self, routing: Routing) -> None:
        """As in the port."""
        if routing.revision == 1:
            await self._tx.execute(insert(ROUTINGS).values(scope=routing.scope, revision=1))
        else:
            moved = update(ROUTINGS).where(ROUTINGS.c.scope == routing.scope)
            await self._tx.execute(moved.values(revision=routing.revision))
        shares = [[one.variant.variant_id, one.weight, one.experiment_id, one.arm] for one in routing.shares]
        row = {
            "scope": routing.scope,
            "revision": routing.revision,
            "weights": json.dumps(shares),
            "author": routing.change.author,
            "reason": routing.change.reason,
            "changed_at": routing.change.at,
        }
        await self._tx.execute(insert(ROUTING_CHANGES).values(row))

    async def find(self, kind: type[K], key: str) -> K | None:
        """As in the port."""
        statement = select(ENTRIES.c.body).where(ENTRIES.c.noun == kind.noun, ENTRIES.c.key == key)
        body = await self._tx.scalar(statement)
        if body is None:
            return None
        found: K = _FORMS[kind].validate_json(body)
        return found

    async def page(
        self, kind: type[K], *, scope: str = "", live: bool = False, count: int, before: int = 0
    ) -> Listing[K]:
        """As in the port."""
        statement = select(ENTRIES).where(ENTRIES.c.noun == kind.noun)
        if scope:
            statement = statement.where(ENTRIES.c.listed_under == scope)
        if live:
            statement = statement.where(ENTRIES.c.live.is_(True))
        return await self._page(
            statement, ENTRIES.c.number, count, before, lambda row: _FORMS[kind].validate_json(row.body)
        )

    async def put(self, thing: Thing) -> None:
        """As in the port."""
        row = {
            "noun": thing.noun,
            "key": thing.key,
            "listed_under": listed_under(thing),
            "live": bool(getattr(thing, "live", False)),
            "body": _FORMS[type(thing)].dump_json(thing).decode(),
        }
        kept = self._insert(ENTRIES).values(row)
        changed = {"body": row["body"], "live": row["live"]}
        await self._tx.execute(kept.on_conflict_do_update(index_elements=["noun", "key"], set_=changed))

    async def note(self, notes: Iterable[Note]) -> None:
        """As in the port."""
        for one in notes:
            row = {column.name: getattr(one, column.name) for column in CHANGES.columns if column.name != "number"}
            await self._tx.execute(insert(CHANGES).values(row))

    async def page_of_notes(
        self, *, scope: str = "", subject: str = "", since: datetime | None = None, count: int, before: int = 0
    ) -> Listing[Note]:
        """As in the port."""
        statement = select(CHANGES)
        if scope:
            statement = statement.where(CHANGES.c.scope == scope)
        if subject:
            statement = statement.where(CHANGES.c.subject == subject)
        if since is not None:
            statement = statement.where(CHANGES.c.at >= since)
        return await self._page(
            statement,
            CHANGES.c.number,
            count,
            before,
            lambda row: Note(**dict(row._mapping)),  # noqa: SLF001  public, in spite of its name
        )

    async def link(self, links: Iterable[Link]) -> None:
        """As in the port."""
        for one in links:
            row = {"source": one.source, "target": one.target, "how": one.how}
            await self._tx.execute(self._insert(LINKS).values(row).on_conflict_do_nothing())

    async def links(self, ids: Iterable[str], *, up: bool) -> Sequence[Link]:
        """As in the port."""
        column = LINKS.c.target if up else LINKS.c.source
        statement = select(LINKS).where(column.in_(list(ids))).order_by(LINKS.c.source, LINKS.c.target, LINKS.c.how)
        rows = (await self._tx.execute(statement)).all()
        return [Link(source=row.source, target=row.target, how=row.how) for row in rows]

    async def tell(self, told: Told) -> None:
        """As in the port."""
        await Outbox.add(self._tx, self._encode(told))

    async def _page(
        self, statement: Any, number: Any, count: int, before: int, read: Callable[[Row[Any]], Any]
    ) -> Listing[Any]:
        if before:
            statement = statement.where(number < before)
        rows = (await self._tx.execute(statement.order_by(number.desc()).limit(count + 1))).all()
        shown = rows[:count]
        following = shown[-1].number if len(rows) > len(shown) else 0
        return Listing(found=[read(row) for row in shown], following=following)


def _shares(written: str) -> list[tuple[str, int, str, str]]:
    content: Any = json.loads(written)
    if isinstance(content, dict):
        return [(one, weight, "", "") for one, weight in sorted(content.items())]
    return [(one, weight, experiment_id, arm) for one, weight, experiment_id, arm in content]


def _variant(row: Row[Any]) -> Variant:
    return Variant.from_canonical(row.bundle, description=row.description)
