"""Kafka: batches in, a fate per record, effects before commits.

`Bus` is what services see. `KafkaBus` is it on a broker, `MemoryBus` in tests; both run handlers through the same
engine, so a fate means the same on both. `KafkaClient` and `Morgue` are for tools.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from anabranch_bus.bus import Bus
from anabranch_bus.dead_letters import Cause, DeadLetter
from anabranch_bus.events import Encoded, Event, derived_id, new_id
from anabranch_bus.memory import MemoryBus
from anabranch_bus.outgoing import Outgoing
from anabranch_bus.policy import Backoff, Policy
from anabranch_bus.records import Batch, Outcome, Raw, Record, Unreadable

if TYPE_CHECKING:
    from anabranch_bus.kafka.bus import KafkaBus
    from anabranch_bus.kafka.client import KafkaClient
    from anabranch_bus.kafka.morgue import Letter, Morgue, Replayed
    from anabranch_bus.kafka.settings import BusSettings

__all__ = [
    "Backoff",
    "Batch",
    "Bus",
    "BusSettings",
    "Cause",
    "DeadLetter",
    "Encoded",
    "Event",
    "KafkaBus",
    "KafkaClient",
    "Letter",
    "MemoryBus",
    "Morgue",
    "Outcome",
    "Outgoing",
    "Policy",
    "Raw",
    "Record",
    "Replayed",
    "Unreadable",
    "derived_id",
    "new_id",
]

# FastStream takes most of a second to import, which tests on a MemoryBus and most commands need not pay.
_ON_KAFKA = {
    "BusSettings": "settings",
    "KafkaBus": "bus",
    "KafkaClient": "client",
    "Letter": "morgue",
    "Morgue": "morgue",
    "Replayed": "morgue",
}


def __getattr__(name: str) -> Any:
    """Import what needs Kafka when it is first asked for."""
    if name not in _ON_KAFKA:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"anabranch_bus.kafka.{_ON_KAFKA[name]}"), name)
