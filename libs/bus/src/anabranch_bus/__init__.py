"""Kafka: batches in, a fate per record, effects before commits.

`Bus` is what services see. `KafkaBus` is it on a broker, `MemoryBus` in tests; both run handlers through the same
engine, so a fate means the same on both.
"""

from __future__ import annotations

from anabranch_bus.bus import Bus
from anabranch_bus.dead_letters import Cause, DeadLetter
from anabranch_bus.events import Encoded, Event, derived_id
from anabranch_bus.kafka import BusSettings, KafkaBus
from anabranch_bus.memory import MemoryBus
from anabranch_bus.policy import Backoff, Policy
from anabranch_bus.records import Batch, Outcome, Raw, Record, Unreadable

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
    "MemoryBus",
    "Outcome",
    "Policy",
    "Raw",
    "Record",
    "Unreadable",
    "derived_id",
]
