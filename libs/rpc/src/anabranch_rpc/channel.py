"""Channels that pass on the deadline, the trace and the cancellation of the call they work for."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import cycle
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc import ChannelConnectivity
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from anabranch_observability import enabled, traceparent, tracer
from anabranch_observability.names import rpc as names
from anabranch_rpc.scope import current
from anabranch_rpc.server import MAX_MESSAGE_BYTES

__all__ = ["connect"]

# What is kept back of the caller's time, so that our answer to it still arrives in time.
_RESERVE_SECONDS: Final = 0.010
_ROUND_ROBIN: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
_MIB: Final = 1024 * 1024


def connect(
    target: str,
    *,
    timeout: timedelta = timedelta(seconds=30),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    metadata: Mapping[str, str] | None = None,
) -> grpc.aio.Channel:
    """A channel to `target`: "host:port", "unix:/path", or several with commas between, taken in turn.

    A call gets the least of its own `timeout`, what is left of the server call it is made in (less 10 ms), and, when
    it has neither and answers once, `timeout`; a stream without either has no deadline. Calls made in a server call are
    cancelled when that ends (`detached()` opts out). Does not wait for a connection; made on the event loop, closed by
    its owner. `metadata` goes with every call. Raises ValueError for a target that is none.
    """
    groups = _targets(target)
    options = (
        ("grpc.max_receive_message_length", max_message_bytes + _MIB),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        # A neighbour that restarts is found again in a fraction of a second; gRPC's own back-off goes to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.service_config", _ROUND_ROBIN),
    )
    channels = [grpc.aio.insecure_channel(group, options=options) for group in groups]
    return _Channel(channels, timeout.total_seconds(), tuple((metadata or {}).items()))


class _Channel(grpc.aio.Channel):
    """One or several channels, used in turn."""

    def __init__(
        self, channels: Sequence[grpc.aio.Channel], timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        self._channels = tuple(channels)
        self._timeout = timeout
        self._metadata = metadata

    def _method(self, kind: str, timeout: float | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        calls = [getattr(channel, kind)(*args, **kwargs) for channel in self._channels]
        return _Method(str(args[0] if args else kwargs["method"]), self._channels, calls, timeout, self._metadata)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("unary_unary", self._timeout, args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("unary_stream", None, args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("stream_unary", self._timeout, args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("stream_stream", None, args, kwargs)

    async def close(self, grace: float | None = None) -> None:
        for channel in self._channels:
            await channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:  # noqa: FBT001, FBT002  grpc's signature
        states = [channel.get_state(try_to_connect) for channel in self._channels]
        return ChannelConnectivity.READY if ChannelConnectivity.READY in states else states[0]

    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        await self._channels[0].wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channels[0].channel_ready()


class _Method:
    """A method of a channel, called with the context of the server call at hand."""

    __slots__ = ("_calls", "_channels", "_metadata", "_name", "_only", "_timeout", "_turns")

    def __init__(
        self,
        name: str,
        channels: Sequence[grpc.aio.Channel],
        calls: Sequence[Any],
        timeout: float | None,
        metadata: tuple[tuple[str, str], ...],
    ) -> None:
        self._name = name.removeprefix("/")
        self._channels = channels
        self._calls = calls
        self._only = calls[0] if len(calls) == 1 else None
        self._turns = cycle(range(len(calls)))
        self._timeout = timeout
        self._metadata = metadata

    def __call__(self, *args: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any) -> Any:
        """As grpc.aio's multi-callables: the request (or iterator) and keyword options; gives the call object."""
        scope = current()
        left = scope.remaining() if scope is not None else None
        if left is not None:
            left = max(left - _RESERVE_SECONDS, 0.0)
            timeout = left if timeout is None else min(timeout, left)
        elif timeout is None:
            timeout = self._timeout
        span = self._span() if enabled() else None
        header = traceparent() if span is None else _header_of(span)
        sent = self._metadata if metadata is None else (*self._metadata, *metadata)
        if header is not None:
            sent = (*sent, ("traceparent", header))
        call = (self._only or self._next())(*args, timeout=timeout, metadata=sent, **kwargs)
        if scope is not None:
            scope.adopt(call)
        if span is not None:
            call.add_done_callback(lambda _call: span.end())
        return call

    def _next(self) -> Any:
        # One that is down is passed over while another is not known to be.
        for _ in self._calls:
            turn = next(self._turns)
            if self._channels[turn].get_state(try_to_connect=True) is not ChannelConnectivity.TRANSIENT_FAILURE:
                break
        return self._calls[turn]

    def _span(self) -> trace.Span:
        attributes = {names.Attr.SYSTEM.value: "grpc", names.Attr.METHOD.value: self._name}
        return tracer().start_span(self._name, kind=SpanKind.CLIENT, attributes=attributes)


def _header_of(span: trace.Span) -> str:
    of = span.get_span_context()
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-{int(of.trace_flags):02x}"


def _targets(target: str) -> list[str]:
    parts = [part.strip() for part in target.split(",") if part.strip()]
    if not parts:
        raise ValueError("a gRPC target is empty: name host:port or unix:/path")
    addresses = [_address(part) for part in parts]
    # gRPC spreads calls over the addresses of one family by itself.
    for family in ("ipv4:", "ipv6:"):
        if all(address.startswith(family) for address in addresses):
            return [family + ",".join(address.removeprefix(family) for address in addresses)]
    return addresses


def _address(part: str) -> str:
    if part.startswith(("unix:", "ipv4:", "ipv6:", "dns:")):
        return part
    host, colon, port = part.rpartition(":")
    if not colon or not port.isdigit() or not host:
        raise ValueError(f"{part!r} is not a gRPC target: name host:port or unix:/path")
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        return f"ipv4:127.0.0.1:{port}" if host == "localhost" else f"dns:///{host}:{port}"
    return f"ipv{version}:{part}"
