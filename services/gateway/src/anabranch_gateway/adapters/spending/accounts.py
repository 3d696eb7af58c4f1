"""One window of one budget, as this process sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from anabranch_gateway.adapters.spending.grants import PARTS, Grants, Window
from anabranch_gateway.domain.spending import MOST, BudgetBound, Crossing


@dataclass(slots=True, kw_only=True)
class Account:
    """What is granted to all processes, what of it to this one, and what became of that.

    Whatever this process spends was granted before in the database: a process that dies has spent no more than its
    grant, and the one after it takes the grant for spent.
    """

    window: Window
    grants: Grants
    out: int = 0
    mine: int = 0
    spent: int = 0
    reserved: int = 0
    waiting: int = 0
    told: set[tuple[bool, int]] = field(default_factory=set)
    growing: asyncio.Task[bool] | None = None
    seen: float = float("-inf")

    @property
    def free(self) -> int:
        """Granted here, and neither spent nor reserved."""
        return self.mine - self.spent - self.reserved

    @property
    def others(self) -> int:
        """Granted to others and to those before; counts as spent."""
        return self.out - self.mine

    @property
    def total(self) -> int:
        """Spent and reserved by everyone, as far as this process knows."""
        return self.others + self.spent + self.reserved

    async def grow(self, micros: int, bound: BudgetBound) -> bool:
        """Sees to it that `micros` are free; whether more was granted, by this or by another call. Raises Transient."""
        if self.growing is None:
            self.growing = asyncio.create_task(self._take(micros - self.free, bound))
            self.growing.add_done_callback(self._heard)
        growing = self.growing
        self.waiting += micros
        try:
            return await asyncio.shield(growing)
        finally:
            self.waiting -= micros

    def grow_ahead(self, bound: BudgetBound) -> None:
        """Asks for more before it is needed, so that the next calls need not wait for the database."""
        part = _part(bound)
        most = MOST if bound.hard is None else bound.hard
        if self.growing is None and self.free < part // 2 and self.out < most:
            self.growing = asyncio.create_task(self._take(1, bound))
            self.growing.add_done_callback(self._heard)

    async def refresh(self) -> None:
        """Reads anew what others hold. Raises Transient."""
        _, self.out = await self.grants.take(self.window, least=0, want=0, hard=MOST)

    def reached(self, bound: BudgetBound, *, at: float, refused: bool = False) -> list[Crossing]:
        """The bounds reached that this process has not told of; `refused`: the hard one kept a call out."""
        found: list[Crossing] = []
        for hard, limit in ((False, bound.soft or None), (True, bound.hard)):
            if limit is None or (hard, limit) in self.told:
                continue
            if self.total >= limit or (hard and refused):
                self.told.add((hard, limit))
                found.append(self._crossing(hard=hard, limit=limit, at=at))
        return found

    async def _take(self, least: int, bound: BudgetBound) -> bool:
        try:
            await asyncio.sleep(0)  # so that all who came at once are counted in `waiting`
            want = max(least, _part(bound), self.waiting - self.free)
            hard = MOST if bound.hard is None else bound.hard
            granted, self.out = await self.grants.take(self.window, least=least, want=want, hard=hard)
            self.mine += granted
            return granted > 0
        finally:
            # Here, and not when the loop comes round to it: waiting for a task that is done takes no time, and whoever
            # did so again and again would keep the loop from ever coming round.
            self.growing = None

    @staticmethod
    def _heard(task: asyncio.Task[bool]) -> None:
        if not task.cancelled():
            task.exception()  # whoever waits has it; one that asked ahead does without

    def _crossing(self, *, hard: bool, limit: int, at: float) -> Crossing:
        return Crossing(
            account=self.window.account,
            window=timedelta(seconds=self.window.seconds),
            start=datetime.fromtimestamp(self.window.start, tz=UTC),
            hard=hard,
            bound=limit,
            spent=self.others + self.spent,
            reserved=self.reserved,
            at=datetime.fromtimestamp(at, tz=UTC),
        )


def _part(bound: BudgetBound) -> int:
    whole = bound.hard if bound.hard is not None else bound.soft
    return max(1, whole // PARTS)
