"""What one server call knows: its deadline, its caller, and the calls made on its behalf."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Protocol, TypeVar

__all__ = ["Scope", "current", "deadline", "detached", "enter", "principal"]

P = TypeVar("P")
_SWEEP_AT = 64


class _Cancellable(Protocol):
    def done(self) -> bool: ...
    def cancel(self) -> bool: ...


@dataclass(slots=True)
class Scope:
    """One server call. `expires` is on the monotonic clock; None when the call may last for ever."""

    expires: float | None = None
    principal: object | None = None
    calls: list[_Cancellable] = field(default_factory=list)

    def remaining(self) -> float | None:
        """Seconds left, 0 when past; None without a deadline."""
        return None if self.expires is None else max(self.expires - monotonic(), 0.0)

    def adopt(self, call: _Cancellable) -> None:
        """Tie an outgoing call to this one: it is cancelled when this one ends."""
        if len(self.calls) >= _SWEEP_AT:
            self.calls[:] = [one for one in self.calls if not one.done()]
        self.calls.append(call)

    def close(self) -> None:
        """Cancel what is still running on this call's behalf."""
        for call in self.calls:
            if not call.done():
                call.cancel()
        self.calls.clear()


_scope: ContextVar[Scope | None] = ContextVar("anabranch_rpc_scope", default=None)


def current() -> Scope | None:
    """The server call this task works for, if any."""
    return _scope.get()


def enter(scope: Scope) -> None:
    """Make `scope` current for the rest of this task and for the tasks it starts."""
    _scope.set(scope)


def deadline() -> timedelta | None:
    """How long the caller still waits: never negative; None outside of a call and in a call without a deadline."""
    scope = _scope.get()
    left = scope.remaining() if scope is not None else None
    return None if left is None else timedelta(seconds=left)


def principal(kind: type[P]) -> P:
    """Who calls, as the server's `authenticate` said. Raises LookupError where nobody was authenticated."""
    scope = _scope.get()
    found = scope.principal if scope is not None else None
    if not isinstance(found, kind):
        raise LookupError(  # noqa: TRY004  it is absent, not of a wrong type
            f"no {kind.__name__} here: the server has no `authenticate`, or this is not a server call"
        )
    return found


@contextmanager
def detached() -> Iterator[None]:
    """Work that outlives the server call it was started in: inherits neither its deadline nor its cancellation."""
    token = _scope.set(None)
    try:
        yield
    finally:
        _scope.reset(token)
