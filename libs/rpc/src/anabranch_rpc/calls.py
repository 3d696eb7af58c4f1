"""One call of a method: what is checked before its handler, and what becomes of every way out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, perf_counter
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind

from anabranch_faults import Invalid, TooLarge, Unauthenticated, Unreachable
from anabranch_observability import (
    adopt,
    counter,
    enabled,
    failed,
    gauge,
    get_logger,
    histogram,
    parse_traceparent,
    tracer,
)
from anabranch_observability.names import rpc as names
from anabranch_rpc.errors import DETAILS_KEY, Errors, Status, status_of
from anabranch_rpc.scope import Scope, enter

__all__ = ["Authenticate", "Call", "Context", "Draining", "Method", "Policy"]

log = get_logger()

Metadata: TypeAlias = Mapping[str, str | bytes]
Authenticate: TypeAlias = Callable[[Metadata], Awaitable[object]]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# The caller's own doing: worth a line for whoever debugs it, not for whoever is on call.
_CLIENT_CODES = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ABORTED,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
        StatusCode.CANCELLED,
    }
)
_CODES_BY_NUMBER = {code.value[0]: code for code in StatusCode}


class Draining:
    """Ends the calls that would never end by themselves when the server stops."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._begun = False
        self._open: set[Call] = set()

    def join(self, call: Call) -> None:
        """A call without a deadline begins."""
        self._open.add(call)
        if self._begun:
            call.interrupt(_stopping())

    def leave(self, call: Call) -> None:
        """It has ended."""
        self._open.discard(call)

    def begin(self) -> None:
        """End them all: their callers are told to connect again, elsewhere."""
        self._begun = True
        for call in tuple(self._open):
            call.interrupt(_stopping())


def _stopping() -> Unreachable:
    return Unreachable("the server stops: connect again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a server asks of every call of a method."""

    errors: Errors
    authenticate: Authenticate | None
    deadline_required: bool
    default_deadline: timedelta | None
    max_request_bytes: int
    draining: Draining


class Call:
    """One call from the first byte to the status: scope, trace, error mapping, log line, metrics."""

    __slots__ = (
        "_code",
        "_context",
        "_ending",
        "_method",
        "_scope",
        "_span",
        "_started",
        "_task",
        "_timer",
        "_writing",
    )

    def __init__(self, method: Method, context: Context) -> None:
        self._method = method
        self._context = context
        self._scope = Scope()
        self._span: Span | None = None
        self._code = StatusCode.OK
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._ending: Exception | None = None
        self._writing = False
        self._started = perf_counter()
        method.in_flight.inc()

    async def open(self) -> None:
        """Check and bind what the metadata says."""
        policy = self._method.policy
        metadata: dict[str, str | bytes] = dict(self._context.invocation_metadata() or ())
        header = metadata.get("traceparent")
        self._trace(header if isinstance(header, str) else None)
        left = self._context.time_remaining()
        if left is None:
            if policy.deadline_required:
                raise Invalid("a deadline is required: set a timeout on the call", reason="DEADLINE_REQUIRED")
            if policy.default_deadline is not None:
                left = policy.default_deadline.total_seconds()
                self._timer = asyncio.get_running_loop().call_later(left, self.interrupt, TimeoutError("took too long"))
        if left is None:
            policy.draining.join(self)
        else:
            self._scope.expires = monotonic() + left
        if policy.authenticate is not None:
            principal = await policy.authenticate(metadata)
            if principal is None:
                raise Unauthenticated("no valid credential")
            self._scope.principal = principal
        enter(self._scope)

    def parse(self, raw: bytes) -> Any:
        """The request message. Raises Invalid and TooLarge."""
        method = self._method
        if len(raw) > method.policy.max_request_bytes:
            raise TooLarge(f"the request has {len(raw)} bytes; at most {method.policy.max_request_bytes} are taken")
        try:
            return method.deserialize(raw)
        except DecodeError as error:
            raise Invalid("the request is not a readable message of this method's type", reason="MALFORMED") from error

    async def write(self, message: Any) -> None:
        """Send a message of the stream."""
        self._writing = True
        try:
            await self._context.write(message)
        finally:
            self._writing = False
        if self._ending is not None:
            raise self._ending

    def interrupt(self, ending: Exception) -> None:
        """End the call with this error, at the next moment at which no message is being sent.

        gRPC sends one thing at a time: a status while a message is under way is a crash of the call.
        """
        self._ending = ending
        if not self._writing and self._task is not None:
            self._task.cancel()

    async def fail(self, error: BaseException) -> None:
        """Answer with the status for `error`. Never returns normally, except for a handler that aborted by itself."""
        if isinstance(error, asyncio.CancelledError) and self._ending is not None and not self._context.cancelled():
            if self._task is not None:
                self._task.uncancel()
            error = self._ending
        if isinstance(error, asyncio.CancelledError):
            self._code = StatusCode.CANCELLED
            log.debug(names.Log.REQUEST_CANCELLED, method=self._method.name, ms=self._ms())
            raise error
        if isinstance(error, grpc.aio.AbortError):
            self._code = _CODES_BY_NUMBER.get(self._context.code(), StatusCode.UNKNOWN)  # type: ignore[call-overload]  # an int, or None
            raise error
        if not isinstance(error, Exception):
            raise error
        status = status_of(error, self._method.policy.errors)
        self._code = status.code
        self._report(error, status)
        details = ((DETAILS_KEY, status.details),) if status.details else ()
        await self._context.abort(status.code, status.message, details)

    def close(self) -> None:
        """Cancel what was started for this call; count and log it."""
        method, code = self._method, self._code
        if self._timer is not None:
            self._timer.cancel()
        method.policy.draining.leave(self)
        self._scope.close()
        method.in_flight.dec()
        took = perf_counter() - self._started
        method.seconds.observe(took)
        method.count(code)
        if code is StatusCode.OK:
            log.debug(names.Log.REQUEST_FINISHED, method=method.name, code="OK", ms=self._ms())
        if self._span is not None:
            self._span.set_attribute(names.Attr.STATUS, code.value[0])
            self._span.end()

    def _trace(self, header: str | None) -> None:
        if not enabled():
            adopt(header)
            return
        remote = parse_traceparent(header)
        parent = trace.set_span_in_context(NonRecordingSpan(remote)) if remote is not None else None
        attributes = {names.Attr.SYSTEM.value: "grpc", names.Attr.METHOD.value: self._method.name}
        self._span = tracer().start_span(self._method.name, parent, SpanKind.SERVER, attributes)
        otel_context.attach(trace.set_span_in_context(self._span))

    def _report(self, error: Exception, status: Status) -> None:
        said: dict[str, Any] = {
            "method": self._method.name,
            "code": status.code.name,
            "problem": status.message,
            "ms": self._ms(),
        }
        if status.error_id:
            said |= {"error_id": status.error_id, "exc_info": error}
            log.error(names.Log.REQUEST_FAILED, error=type(error).__name__, **said)
        elif status.code in _CLIENT_CODES:
            log.info(names.Log.REQUEST_REFUSED, **said)
        else:
            log.warning(names.Log.REQUEST_FAILED, error=type(error).__name__, **said)
        if self._span is not None and status.code not in _CLIENT_CODES:
            failed(self._span, error)

    def _ms(self) -> float:
        return round((perf_counter() - self._started) * 1000, 2)


class Method:
    """A method with its metrics looked up once."""

    __slots__ = ("_counts", "deserialize", "handler", "in_flight", "name", "policy", "seconds")

    def __init__(self, name: str, handler: Any, deserialize: Callable[[bytes], Any], policy: Policy) -> None:
        self.name = name
        self.handler = handler
        self.deserialize = deserialize
        self.policy = policy
        self.seconds = histogram(names.REQUEST_SECONDS).labels(method=name)
        self.in_flight = gauge(names.REQUESTS_IN_FLIGHT).labels(method=name)
        self._counts: dict[StatusCode, Any] = {}

    def count(self, code: StatusCode) -> None:
        """One more call that ended so."""
        child = self._counts.get(code)
        if child is None:
            child = self._counts[code] = counter(names.REQUESTS).labels(method=self.name, code=code.name)
        child.inc()
