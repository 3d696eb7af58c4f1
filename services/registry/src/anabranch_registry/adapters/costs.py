"""The ledger of what was spent, in SQL: sums by hour, and the names of the calls that are in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Integer, Row, case, cast, delete, func, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_registry.adapters.tables import USAGE_CALLS, USAGE_GROUPS, USAGE_HOURS
from anabranch_registry.domain.spending import By, Costs, Spent, Usage
from anabranch_store import Database

__all__ = ["SqlCostBook"]

_ROWS: Final = 1_000
_REMEMBERED: Final = 200_000
_HOUR: Final = 3_600
_HOURS: Final = 24
_SUMS: Final = ("calls", "unpriced_calls", "prompt_tokens", "completion_tokens", "cost_micros")
_WORDS: Final = ("tenant", "key_id", "user_id", "variant_id", "purpose", "backend", "model")
_COLUMNS: Final[dict[By, Any]] = {
    By.TENANT: USAGE_GROUPS.c.tenant,
    By.KEY: USAGE_GROUPS.c.key_id,
    By.USER: USAGE_GROUPS.c.user_id,
    By.VARIANT: USAGE_GROUPS.c.variant_id,
    By.PURPOSE: USAGE_GROUPS.c.purpose,
    # A backend without models is what costs there.
    By.MODEL: case((USAGE_GROUPS.c.model == literal_column("''"), USAGE_GROUPS.c.backend), else_=USAGE_GROUPS.c.model),
    By.DAY: cast(USAGE_HOURS.c.hour // literal_column("24", Integer), Integer),
}


class SqlCostBook:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._groups: dict[bytes, int] = {}

    async def add(self, calls: Sequence[Usage]) -> int:
        """As in the port."""
        named = {_digest([one.usage_id]): one for one in calls}
        async with self._database.transaction() as tx:
            insert: Callable[..., Any] = (
                postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
            )
            # Always in one order: two batches with the same calls cannot wait for each other.
            fresh = [named[call] for call in await _claim(tx, insert, sorted(named), named)]
            groups = await _groups(tx, insert, fresh, self._groups)
            await _add(tx, insert, fresh, groups)
        # Committed, and so there for ever.
        if len(self._groups) > _REMEMBERED:
            self._groups.clear()
        self._groups.update(groups)
        return len(fresh)

    async def sums(self, by: Sequence[By], *, since: datetime, until: datetime, tenant: str, most: int) -> Costs:
        """As in the port."""
        columns = [_COLUMNS[one].label(f"by_{index}") for index, one in enumerate(by)]
        joined = USAGE_HOURS.join(USAGE_GROUPS, USAGE_GROUPS.c.group_id == USAGE_HOURS.c.group_id)
        where = [USAGE_HOURS.c.hour >= _hour(since), USAGE_HOURS.c.hour <= _hour(until)]
        if tenant:
            where.append(USAGE_GROUPS.c.tenant == tenant)
        sums = [func.sum(USAGE_HOURS.c[name]).label(name) for name in _SUMS]
        groups = select(*columns, *sums).select_from(joined).where(*where).group_by(*columns).subquery()
        # In one statement, so that the total is of the very rows it stands beside.
        totals = [func.sum(groups.c[name]).over().label(f"all_{name}") for name in _SUMS]
        order = [groups.c.cost_micros.desc(), groups.c.calls.desc(), *(groups.c[one.name] for one in columns)]
        statement = select(groups, *totals, func.count().over().label("groups")).order_by(*order).limit(most)
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement)).all()
        if not rows:
            return Costs()
        total = _sums(rows[0], "all_")
        return Costs(rows=[_spent(row, by) for row in rows], total=total, left_out=int(rows[0].groups) - len(rows))

    async def forget(self, *, before: datetime) -> int:
        """As in the port."""
        async with self._database.transaction() as tx:
            gone: Any = await tx.execute(delete(USAGE_CALLS).where(USAGE_CALLS.c.day < _hour(before) // _HOURS))
        return int(gone.rowcount)


async def _claim(
    tx: AsyncSession, insert: Callable[..., Any], calls: Sequence[bytes], named: dict[bytes, Usage]
) -> list[bytes]:
    fresh: list[bytes] = []
    for part in _parts(calls):
        rows = [{"call": call, "day": _hour(named[call].metered_at) // _HOURS} for call in part]
        taken = insert(USAGE_CALLS).values(rows).on_conflict_do_nothing().returning(USAGE_CALLS.c.call)
        fresh += (await tx.execute(taken)).scalars()
    return fresh


async def _groups(
    tx: AsyncSession, insert: Callable[..., Any], calls: Sequence[Usage], remembered: Mapping[bytes, int]
) -> dict[bytes, int]:
    wanted = {_digest(_words(one)): dict(zip(_WORDS, _words(one), strict=True)) for one in calls}
    numbers = {digest: remembered[digest] for digest in wanted if digest in remembered}
    for part in _parts(sorted(wanted.keys() - numbers.keys())):
        rows = [{"digest": digest, **wanted[digest]} for digest in part]
        await tx.execute(insert(USAGE_GROUPS).values(rows).on_conflict_do_nothing())
        known = select(USAGE_GROUPS.c.digest, USAGE_GROUPS.c.group_id).where(USAGE_GROUPS.c.digest.in_(part))
        numbers.update({bytes(row.digest): row.group_id for row in (await tx.execute(known)).all()})
    return numbers


async def _add(
    tx: AsyncSession, insert: Callable[..., Any], calls: Sequence[Usage], numbers: Mapping[bytes, int]
) -> None:
    sums: dict[tuple[int, int], list[int]] = {}
    for one in calls:
        row = sums.setdefault((_hour(one.metered_at), numbers[_digest(_words(one))]), [0] * len(_SUMS))
        unpriced = one.cost_micros is None
        for index, more in enumerate((1, unpriced, one.prompt_tokens, one.completion_tokens, one.cost_micros or 0)):
            row[index] += more
    for part in _parts(sorted(sums)):
        rows = [
            {"hour": hour, "group_id": group, **dict(zip(_SUMS, sums[hour, group], strict=True))}
            for hour, group in part
        ]
        added = insert(USAGE_HOURS).values(rows)
        sets = {name: USAGE_HOURS.c[name] + added.excluded[name] for name in _SUMS}
        await tx.execute(added.on_conflict_do_update(index_elements=["hour", "group_id"], set_=sets))


def _spent(row: Row[Any], by: Sequence[By]) -> Spent:
    group = [getattr(row, f"by_{index}") for index in range(len(by))]
    words = [_day(one) if which is By.DAY else str(one) for which, one in zip(by, group, strict=True)]
    return replace(_sums(row, ""), group=tuple(words))


def _sums(row: Row[Any], prefix: str) -> Spent:
    calls, unpriced, prompt, completion, cost = (int(getattr(row, f"{prefix}{name}")) for name in _SUMS)
    return Spent(
        calls=calls, unpriced_calls=unpriced, prompt_tokens=prompt, completion_tokens=completion, cost_micros=cost
    )


def _words(usage: Usage) -> list[str]:
    return [getattr(usage, name) for name in _WORDS]


def _digest(words: Iterable[str]) -> bytes:
    content = "".join(f"{len(word)}\n{word}" for word in words)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def _hour(at: datetime) -> int:
    return int(at.timestamp() // _HOUR)


def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def _parts(all_: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(all_), _ROWS):
        yield all_[start : start + _ROWS]
