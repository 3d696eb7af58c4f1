"""The bus on a broker."""

from __future__ import annotations

from anabranch_bus.kafka.bus import KafkaBus
from anabranch_bus.kafka.settings import BusSettings

__all__ = ["BusSettings", "KafkaBus"]
