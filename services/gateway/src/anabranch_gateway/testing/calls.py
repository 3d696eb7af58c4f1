"""What stand-ins have seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from anabranch_rpc import deadline


@dataclass(slots=True)
class Calls:
    """What came in, and what became of it."""

    requests: list[Any] = field(default_factory=list)
    deadlines: list[timedelta | None] = field(default_factory=list)
    begun: int = 0
    cancelled: int = 0

    def note(self, request: Any) -> None:
        """Writes a request down, with the deadline it came with."""
        self.requests.append(request)
        self.deadlines.append(deadline())
        self.begun += 1
