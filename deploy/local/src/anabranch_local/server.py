"""What real servers have in common, whatever they serve: they are asked, stopped, killed, and used in a block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from types import TracebackType
from typing import ClassVar, Self

from anabranch_local.probes import reason_unready
from anabranch_local.process import Process


class Server(ABC):
    """A server of its own process. `stops_within` is how long a clean stop may take before it is forced."""

    stops_within: ClassVar[timedelta]
    _process: Process | None = None

    @property
    @abstractmethod
    def probe(self) -> str:
        """How `anabranch_local.probes` asks it."""

    @abstractmethod
    def start(self) -> Self:
        """Start it and block until it answers. Does nothing when it runs already. Raises StartError."""

    def answers(self) -> bool:
        """Whether it serves requests now. Blocks for a second at most."""
        return reason_unready(self.probe) is None

    def stop(self, *, grace: timedelta | None = None) -> None:
        """Stop cleanly, or by force after `grace` (else `stops_within`). Does nothing when it does not run."""
        if self._process is not None:
            self._process.stop(grace=self.stops_within if grace is None else grace)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()
