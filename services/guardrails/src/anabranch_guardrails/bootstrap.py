"""The composition root: the one file that names concrete classes."""

from __future__ import annotations

from anabranch_bus import Bus
from anabranch_guardrails.settings import Settings
from anabranch_runtime import Service


def build(settings: Settings, *, bus: Bus) -> Service:  # noqa: ARG001  the signature that every service has
    """Wires the service; starts nothing."""
    return Service(name="guardrails", bus=bus)
