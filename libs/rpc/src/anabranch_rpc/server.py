"""A gRPC server of this process: health, reflection, and every method under one policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from anabranch_observability import get_logger
from anabranch_observability.names import rpc as names
from anabranch_rpc.calls import Authenticate, Draining, Policy
from anabranch_rpc.errors import CODES, Errors
from anabranch_rpc.handlers import wrap

__all__ = ["MAX_MESSAGE_BYTES", "Server", "Servicer"]

log = get_logger()

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_MAX_UNIX_PATH = 107
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Servicer:
    """An implementation of a service: the object, the generated `add_..._to_server`, and the full service name."""

    instance: Any
    add: Callable[[Any, Any], None]
    name: str


class Server:
    """Serves `servicers` on `listen` ("host:port" or "unix:/path", port 0 for a free one).

    `errors` extends the table of `anabranch_rpc.errors`. A call without a deadline is refused, unless
    `default_deadline` gives it one, or its method (name or full name, a trailing `*` allowed) is in
    `deadline_exempt`. Requests over `max_message_bytes` are refused; `larger_messages` raises the limit of methods.
    `authenticate` is awaited with the metadata before anything else and raises Unauthenticated; what it returns is
    `principal(kind)` in the handler. Health and reflection need neither deadline nor credential.

    Made and used on the event loop. Health says NOT_SERVING until `set_serving(True)`.
    """

    def __init__(
        self,
        servicers: Sequence[Servicer],
        *,
        listen: str | Sequence[str] = "127.0.0.1:0",
        errors: Errors | None = None,
        authenticate: Authenticate | None = None,
        default_deadline: timedelta | None = None,
        deadline_exempt: Collection[str] = ("Watch*",),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        larger_messages: Mapping[str, int] | None = None,
    ) -> None:
        """Wraps the handlers. Raises TypeError for a handler that is not async. Opens no socket."""
        larger = dict(larger_messages or {})
        self._listen = (listen,) if isinstance(listen, str) else tuple(listen)
        self._names = tuple(servicer.name for servicer in servicers)
        self._addresses: tuple[str, ...] = ()
        self._health = health.aio.HealthServicer()
        self._stopped = False
        self._draining = Draining()

        def policy_of(method: str) -> Policy:
            return Policy(
                errors={**CODES, **(errors or {})},
                authenticate=authenticate,
                deadline_required=default_deadline is None and not _matches(method, deadline_exempt),
                default_deadline=None if _matches(method, deadline_exempt) else default_deadline,
                max_request_bytes=next(
                    (limit for name, limit in larger.items() if _matches(method, (name,))), max_message_bytes
                ),
                draining=self._draining,
            )

        capture = _Capture()
        for servicer in servicers:
            servicer.add(servicer.instance, capture)
        self._methods = {name: wrap(name, handler, policy_of(name)) for name, handler in capture.handlers.items()}
        # The transport's limit is a stop for abuse; a request a little too large gets a sentence from its handler.
        transport_limit = max([max_message_bytes, *larger.values()]) + _MIB
        self._options = (
            ("grpc.max_receive_message_length", transport_limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.max_ping_strikes", 0),
        )
        self._server: grpc.aio.Server | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, in the order of `listen`, with real ports; empty before `start()`."""
        return self._addresses

    @property
    def address(self) -> str:
        """The first of `addresses`, as `connect()` takes it."""
        return self._addresses[0]

    async def start(self) -> None:
        """Bind and serve. Raises OSError with a sentence when an address cannot be had."""
        server = grpc.aio.server(options=self._options)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        server.add_generic_rpc_handlers((_Table(self._methods),))
        await self.set_serving(serving=False)
        self._addresses = tuple(_bind(server, listen) for listen in self._listen)
        await server.start()
        self._server = server
        log.info(names.Log.SERVER_STARTED, addresses=list(self._addresses), services=list(self._names))

    async def set_serving(self, *, serving: bool) -> None:
        """What health answers, for the server ("") and for each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace: timedelta = timedelta(seconds=10)) -> None:
        """Say NOT_SERVING, take no new calls, let running ones finish within `grace`, cancel the rest. Idempotent.

        Calls without a deadline are ended at once, with UNAVAILABLE: they would outlast any grace.
        """
        if self._stopped or self._server is None:
            return
        self._stopped = True
        await self._health.enter_graceful_shutdown()
        self._draining.begin()
        await self._server.stop(grace.total_seconds())
        log.info(names.Log.SERVER_STOPPED, addresses=list(self._addresses))


class _Capture:
    """Stands where the generated code expects a server, and keeps the handlers it is given."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers come once more below, by name."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Keep them by full name."""
        self.handlers.update({f"{service}/{name}": handler for name, handler in handlers.items()})


class _Table(grpc.GenericRpcHandler):
    """All methods in one dict: the lookup does not grow with the number of services."""

    def __init__(self, methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._methods = {f"/{name}": handler for name, handler in methods.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._methods.get(handler_call_details.method)


def _matches(method: str, patterns: Collection[str]) -> bool:
    short = method.rpartition("/")[2]
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
        for name in (method, short)
    )


def _bind(server: grpc.aio.Server, listen: str) -> str:
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix("unix:"))
        if len(os.fsencode(path)) > _MAX_UNIX_PATH:
            raise OSError(f"cannot listen on {listen}: a unix socket's path has at most {_MAX_UNIX_PATH} bytes")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {listen}: is the address taken, or not of this machine?") from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
