"""What this process may spend of each budget, as written in the database before it is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, Table, Text, bindparam, delete, select, text, update

from anabranch_gateway.adapters.tables import METADATA
from anabranch_store import Database

# One part in this many of a budget is granted at a time: what a crash can leave unused, a process and window.
PARTS: Final = 100
KEPT: Final = 86_400

GRANTS: Final = Table(
    "spending_grants",
    METADATA,
    Column("account", Text(), primary_key=True),
    Column("seconds", Integer(), primary_key=True),
    Column("start", BigInteger(), primary_key=True),
    Column("ends", BigInteger(), nullable=False, index=True),
    Column("granted", BigInteger(), nullable=False),
)
TOLD: Final = Table(
    "spending_told",
    METADATA,
    Column("account", Text(), primary_key=True),
    Column("seconds", Integer(), primary_key=True),
    Column("start", BigInteger(), primary_key=True),
    Column("hard", Integer(), primary_key=True),
    Column("bound", BigInteger(), primary_key=True),
    Column("ends", BigInteger(), nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class Window:
    """A budget's window, by its start in seconds since 1970."""

    account: str
    seconds: int
    start: int

    @property
    def ends(self) -> int:
        """Seconds since 1970."""
        return self.start + self.seconds


class Grants(Protocol):
    """Amounts handed out, to all processes together. They raise Transient while the database is away."""

    async def take(self, window: Window, *, least: int, want: int, hard: int) -> tuple[int, int]:
        """Hands out between `least` and `want`, as far as `hard` allows, or nothing; and says what is out in all."""
        ...

    async def correct(self, changes: Sequence[tuple[Window, int]]) -> None:
        """Adds what was spent beyond, or takes back (negative) what was not."""
        ...

    async def tell(self, window: Window, *, hard: bool, bound: int) -> bool:
        """Whether nobody has told of this bound before."""
        ...

    async def sweep(self, now: int) -> None:
        """Drops windows that are long over."""
        ...


class SqlGrants:
    """Grants, in the gateway's own database. A row is locked while it is changed: nothing is handed out twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, window: Window, *, least: int, want: int, hard: int) -> tuple[int, int]:
        """See the port."""
        async with self._database.transaction() as tx:
            await tx.execute(_MAKE, _values(window))
            out = int(await tx.scalar(select(GRANTS.c.granted).where(*_here(window)).with_for_update()) or 0)
            if out + least > hard:
                return 0, out
            granted = min(want, hard - out)
            await tx.execute(update(GRANTS).where(*_here(window)).values(granted=out + granted))
            return granted, out + granted

    async def correct(self, changes: Sequence[tuple[Window, int]]) -> None:
        """See the port."""
        async with self._database.transaction() as tx:
            # In one order for all processes: rows are locked, and two of them must not wait for each other.
            for window, by in sorted(changes, key=lambda change: (change[0].account, change[0].seconds)):
                await tx.execute(_MAKE, _values(window))
                await tx.execute(update(GRANTS).where(*_here(window)).values(granted=GRANTS.c.granted + by))

    async def tell(self, window: Window, *, hard: bool, bound: int) -> bool:
        """See the port."""
        async with self._database.transaction() as tx:
            told = await tx.execute(_TELL, {**_values(window), "hard": int(hard), "bound": bound})
            return told.first() is not None

    async def sweep(self, now: int) -> None:
        """See the port."""
        async with self._database.transaction() as tx:
            for table in (GRANTS, TOLD):
                await tx.execute(delete(table).where(table.c.ends < now - KEPT))


# SQLite and PostgreSQL say it alike, SQLAlchemy has a dialect for each.
_MAKE: Final = text(
    "INSERT INTO spending_grants (account, seconds, start, ends, granted) "
    "VALUES (:account, :seconds, :start, :ends, 0) ON CONFLICT (account, seconds, start) DO NOTHING"
).bindparams(bindparam("start", type_=BigInteger()), bindparam("ends", type_=BigInteger()))
_TELL: Final = text(
    "INSERT INTO spending_told (account, seconds, start, hard, bound, ends) "
    "VALUES (:account, :seconds, :start, :hard, :bound, :ends) "
    "ON CONFLICT (account, seconds, start, hard, bound) DO NOTHING RETURNING account"
).bindparams(
    bindparam("start", type_=BigInteger()),
    bindparam("ends", type_=BigInteger()),
    bindparam("bound", type_=BigInteger()),
)


def _values(window: Window) -> dict[str, str | int]:
    return {"account": window.account, "seconds": window.seconds, "start": window.start, "ends": window.ends}


def _here(window: Window) -> tuple[ColumnElement[bool], ...]:
    return (
        GRANTS.c.account == window.account,
        GRANTS.c.seconds == window.seconds,
        GRANTS.c.start == window.start,
    )
