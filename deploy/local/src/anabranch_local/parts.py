"""The parts a platform is made of, as the supervisor sees them: something to launch, and something to ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from anabranch_local.process import Process


class Part(Protocol):
    """One process of the platform, which may be launched again and again."""

    @property
    def name(self) -> str:
        """Unique within the platform."""

    @property
    def probe(self) -> str:
        """How `anabranch_local.probes` asks it; may change at a launch."""

    @property
    def log(self) -> Path:
        """Where its output goes."""

    @property
    def grace(self) -> timedelta:
        """How long it may take to stop."""

    def launch(self) -> Process:
        """Start it, ready or not. Blocks. Raises StartError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A part that is a command with an environment: the services."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    probe: str
    log: Path
    cwd: Path | None = None
    grace: timedelta = timedelta(seconds=25)

    def launch(self) -> Process:
        """Start the command."""
        return Process(self.command, log=self.log, env=self.environment, cwd=self.cwd)
