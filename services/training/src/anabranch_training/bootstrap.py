"""The composition root: the one file that names concrete classes."""

from __future__ import annotations

from anabranch_bus import Bus
from anabranch_runtime import Service
from anabranch_training.adapters.memory import MemoryTally
from anabranch_training.application import CountFates, Tally
from anabranch_training.entrypoints import kafka
from anabranch_training.settings import Settings


def build(settings: Settings, *, bus: Bus, tally: Tally | None = None) -> Service:
    """Wires the service; starts nothing."""
    kafka.register(bus, CountFates(tally=tally or MemoryTally(most_corpora=settings.most_corpora)))
    return Service(name="training", bus=bus)
