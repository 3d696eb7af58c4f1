"""A record on its way to its fate, and what an outcome makes of a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from anabranch_bus.events import Event
from anabranch_bus.records import Outcome, Raw, Record, Unreadable
from anabranch_faults import Invalid, Overloaded, Transient, Unreachable

__all__ = ["Item", "Verdict", "is_outage", "judge"]


@dataclass(slots=True, eq=False, kw_only=True)
class Item:
    """A record and how it fared so far; `attempts` are those that count."""

    raw: Raw
    read: Record[Any] | Unreadable
    first_seen: datetime
    attempts: int = 0
    settled: bool = False

    @property
    def record(self) -> Record[Any]:
        """The record; asked of readable items only."""
        if isinstance(self.read, Unreadable):
            raise TypeError("an unreadable record is never given to a handler")
        return self.read


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What becomes of the items of a batch. `why` is the fault to wait for before `again` is handled."""

    done: dict[int, Item] = field(default_factory=dict)
    dead: list[tuple[Item, Invalid | Transient]] = field(default_factory=list)
    again: list[Item] = field(default_factory=list)
    why: Transient | None = None

    def publications(self, outcome: Outcome[Any]) -> Sequence[tuple[int, Event]]:
        """Return what the outcome publishes for the items that are done."""
        return [(offset, event) for offset, event in outcome.publications() if offset in self.done]


def is_outage(fault: BaseException | None) -> bool:
    """Whether a fault says that a dependency is away or full: then no record is to blame, and none is charged."""
    return isinstance(fault, Overloaded | Unreachable)


def judge(items: Sequence[Item], outcome: Outcome[Any], *, attempts: int) -> Verdict:
    """Give each item its fate; retries past `attempts` are dead.

    A record behind a retried one of the same key is handled again, too, whatever the handler said of it: its effects
    must follow those of the record before it. Records without a key have no order.
    """
    verdict = Verdict()
    waiting: set[str] = set()
    for item in items:
        key, fault = item.record.key, outcome.fault_of(item.raw.offset)
        if isinstance(fault, Invalid):
            verdict.dead.append((item, fault))
        elif key in waiting:
            verdict.again.append(item)
        elif isinstance(fault, Transient):
            outage = is_outage(fault)
            item.attempts += not outage
            if not outage and item.attempts >= attempts:
                verdict.dead.append((item, fault))
                continue
            if key:
                waiting.add(key)
            verdict.again.append(item)
            if verdict.why is None or outage:
                verdict.why = fault
        else:
            verdict.done[item.raw.offset] = item
    return verdict
