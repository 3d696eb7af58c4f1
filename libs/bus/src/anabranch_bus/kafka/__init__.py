"""The bus on a broker. Its public names are those of `anabranch_bus`, imported when they are first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch_bus.kafka.bus import KafkaBus
    from anabranch_bus.kafka.client import KafkaClient
    from anabranch_bus.kafka.morgue import Letter, Morgue, Replayed
    from anabranch_bus.kafka.settings import BusSettings

__all__ = ["BusSettings", "KafkaBus", "KafkaClient", "Letter", "Morgue", "Replayed"]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import anabranch_bus  # noqa: PLC0415  it imports this package

    return getattr(anabranch_bus, name)
