"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from anabranch_faults import Invalid
from anabranch_generation.domain import BackendInfo, Event, Request, Rewritten, Settings, Turn


class Backend(Protocol):
    """Writes an answer from passages.

    answer: streams Delta and Citation events in the order of the text, then exactly one Finished. Every citation's
    `text` is the document's over its `span`. Closing the generator stops all work on the answer, upstream too. Raises
    Invalid (with the field) for settings it cannot serve, Overloaded or Unreachable when it cannot serve now.
    """

    @property
    def info(self) -> BackendInfo:
        """Its name and its models, the default first."""

    def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """Streams the answer."""

    async def close(self) -> None:
        """Lets go of connections and devices."""


class Rewriter(Protocol):
    """A backend that can also rewrite a follow-up into a question that stands alone.

    rewrite: at most 4,096 characters; empty when it had nothing to say. May take seconds. Raises as `Backend` does.
    """

    async def rewrite(self, question: str, history: Sequence[Turn], settings: Settings) -> Rewritten:
        """Rewrites."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The backends of this process, by name; the first is the default. Never empty."""

    loaded: Mapping[str, Backend]

    def choose(self, name: str, *, field: str = "settings.backend") -> Backend:
        """The backend of that name. Raises Invalid, naming the choices, when it is not loaded."""
        if not name:
            return next(iter(self.loaded.values()))
        backend = self.loaded.get(name)
        if backend is None:
            raise Invalid(
                f"the backend {name!r} is not loaded here; loaded: {', '.join(self.loaded)}",
                field=field,
                reason="UNKNOWN_BACKEND",
            )
        return backend

    def __call__(self) -> list[BackendInfo]:
        """All, the default first."""
        return [backend.info for backend in self.loaded.values()]
