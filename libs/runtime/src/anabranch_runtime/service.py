"""What a composition root hands to the runtime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from grpc import StatusCode
from starlette.types import ASGIApp

from anabranch_bus import Bus
from anabranch_rpc import MAX_MESSAGE_BYTES, Authenticate, Servicer

__all__ = ["Http", "Service"]

Task = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """An HTTP endpoint of the service's own, besides the one for operators."""

    app: ASGIApp
    listen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, wired and not yet started.

    Started in this order: `starting` one after the other, gRPC and HTTP (bound, not serving), `bus`, `background`; it
    serves once the bus and every `ready` callable answer None. Stopped the other way round: gRPC and HTTP, `draining`
    while the bus can still publish, the bus, `background`, and `closing` last and in reverse order. A background task
    that raises stops the process with exit code 1; one that returns is done.
    """

    name: str
    bus: Bus | None = None
    rpc: Sequence[Servicer] = ()
    http: Http | None = None
    errors: Mapping[type[BaseException], StatusCode] = field(default_factory=dict)
    authenticate: Authenticate | None = None
    default_deadline: timedelta | None = None
    deadline_exempt: Collection[str] = ("Watch*",)
    max_message_bytes: int = MAX_MESSAGE_BYTES
    larger_messages: Mapping[str, int] = field(default_factory=dict)
    starting: Sequence[Task] = ()
    background: Sequence[Task] = ()
    ready: Sequence[Callable[[], str | None]] = ()
    draining: Sequence[Task] = ()
    closing: Sequence[Task] = ()
