"""Putting golden sets, and looking at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from anabranch_evaluation.application.ports import GoldenSets
from anabranch_evaluation.domain.golden import GoldenEntry, GoldenSet
from anabranch_faults import Invalid

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock on the wall."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepGoldenSets:
    """Golden sets of tenants."""

    sets: GoldenSets
    now: Clock = utc_now

    async def put(self, golden: GoldenSet, *, author: str) -> str:
        """Stores it and gives its version. Raises Invalid, naming the field."""
        golden.check()
        await self.sets.put(golden, author=author, at=self.now())
        return golden.version

    async def entries(self, tenant: str) -> Sequence[GoldenEntry]:
        """All of the tenant's, by name."""
        if not tenant:
            raise Invalid("is empty", field="tenant")
        return await self.sets.entries(tenant)
