"""A failed call as the fault its caller must handle.

    Fault (anabranch_faults)
    ├── Invalid ... NotFound, Conflict, TooLarge, Denied, Unauthenticated    change the request; `field` names the part
    ├── Transient ... Overloaded, Unreachable                                repeat later; `retry_after` is a hint
    │   └── TimedOut       the call's own deadline passed; what it asked for may still happen
    └── Failed             the platform broke: a bug there; `code` is the gRPC status name

google.rpc details on the status (BadRequest, ErrorInfo, RetryInfo) fill `field`, `reason` and `retry_after`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # type: ignore[import-untyped]  # googleapis-common-protos has no stubs
from grpc_status import rpc_status

from anabranch_faults import (
    Conflict,
    Denied,
    Fault,
    Invalid,
    NotFound,
    Overloaded,
    TooLarge,
    Transient,
    Unauthenticated,
    Unreachable,
)

__all__ = ["Failed", "TimedOut", "fault_from"]


class TimedOut(Transient):
    """The call's deadline passed."""


class Failed(Fault):
    """The platform failed in a way it did not foresee. `code` is the status name, such as INTERNAL."""

    def __init__(self, problem: str, *, code: str) -> None:
        """Takes the sentence and the status name."""
        super().__init__(problem)
        self.code = code


# The class that was raised, as the platform names it in ErrorInfo; it says more than the status code.
NAMED: Final[Mapping[str, type[Fault]]] = {
    kind.__name__: kind
    for kind in (Invalid, NotFound, Conflict, TooLarge, Denied, Unauthenticated, Transient, Overloaded, Unreachable)
}
# What a status means without it: from proxies and from gRPC itself.
BY_CODE: Final[Mapping[grpc.StatusCode, type[Fault]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.UNIMPLEMENTED: Invalid,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.CANCELLED: Transient,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}


def fault_from(error: grpc.RpcError) -> Fault:
    """The fault a failed call means. Works for calls of `grpc` and of `grpc.aio`."""
    code: grpc.StatusCode = error.code()
    problem: str = error.details() or code.name
    field = reason = named = ""
    retry_after: timedelta | None = None
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # a failed call is also a grpc.Call
    for detail in status.details if status else ():
        violations, info, retry = BadRequest(), ErrorInfo(), RetryInfo()
        if detail.Unpack(violations) and violations.field_violations:
            first = violations.field_violations[0]
            field, problem = first.field, first.description or problem
        elif detail.Unpack(info):
            reason = info.reason
            named = info.metadata.get("fault", "") if info.domain == "anabranch" else ""
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
    kind = NAMED.get(named) or BY_CODE.get(code)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in problem:
        kind, reason = TooLarge, "TOO_LARGE"
    if kind is None:
        return Failed(problem, code=code.name)
    if issubclass(kind, Invalid):
        return kind(problem, field=field, reason=reason)
    if issubclass(kind, Transient):
        return kind(problem, retry_after=retry_after)
    return kind(problem)
