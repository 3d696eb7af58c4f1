"""A failed call as the fault its caller must handle.

    Fault (anabranch_faults)
    ├── Invalid ... NotFound, Conflict, TooLarge, Denied, Unauthenticated    change the request; `field` names the part
    ├── Transient ... Overloaded, Unreachable                                repeat later; `retry_after` is a hint
    │   └── TimedOut       the call's own deadline passed; what it asked for may still happen
    └── Failed             the platform broke: a bug there; `code` is the gRPC status name

google.rpc details on the status (BadRequest, ErrorInfo, RetryInfo) fill `field`, `reason` and `retry_after`.
"""

from __future__ import annotations

from datetime import timedelta

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # googleapis-common-protos has no stubs
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


INVALID: dict[grpc.StatusCode, type[Invalid]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}
TRANSIENT: dict[grpc.StatusCode, type[Transient]] = {
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}


def fault_from(error: grpc.RpcError) -> Fault:
    """The fault a failed call means. Works for calls of `grpc` and of `grpc.aio`."""
    code: grpc.StatusCode = error.code()
    problem: str = error.details() or code.name
    field = reason = ""
    retry_after: timedelta | None = None
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # as above
    for detail in status.details if status else ():
        violations, info, retry = (
            error_details_pb2.BadRequest(),
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(violations) and violations.field_violations:
            first = violations.field_violations[0]
            field, problem, reason = first.field, first.description or problem, reason or first.reason
        elif detail.Unpack(info):
            reason = info.reason or reason
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
    if reason == "TOO_LARGE" or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in problem):
        return TooLarge(problem, field=field, reason="TOO_LARGE")
    if code in INVALID:
        return INVALID[code](problem, field=field, reason=reason)
    if code in TRANSIENT:
        return TRANSIENT[code](problem, retry_after=retry_after)
    return Failed(problem, code=code.name)
