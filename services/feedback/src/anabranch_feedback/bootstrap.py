"""The composition root: the one file that names concrete classes."""

from __future__ import annotations

from anabranch_bus import Bus
from anabranch_feedback.adapters.memory import MemoryTally
from anabranch_feedback.application import CountFates, Tally
from anabranch_feedback.entrypoints import kafka
from anabranch_feedback.settings import Settings
from anabranch_runtime import Service


def build(settings: Settings, *, bus: Bus, tally: Tally | None = None) -> Service:
    """Wires the service; starts nothing."""
    kafka.register(bus, CountFates(tally=tally or MemoryTally(most_corpora=settings.most_corpora)))
    return Service(name="feedback", bus=bus)
