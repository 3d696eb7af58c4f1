"""One table between faults and gRPC: `status_of` on the server, `fault_from` on the client.

| fault | code | details |
| --- | --- | --- |
| Invalid | INVALID_ARGUMENT | BadRequest when it names a field |
| TooLarge | INVALID_ARGUMENT | likewise; RESOURCE_EXHAUSTED would make generic clients repeat what can never work |
| NotFound | NOT_FOUND | |
| Conflict | ABORTED | |
| Denied | PERMISSION_DENIED | |
| Unauthenticated | UNAUTHENTICATED | |
| Transient, Overloaded, Unreachable | UNAVAILABLE | RetryInfo |
| TimeoutError | DEADLINE_EXCEEDED | |
| a failed call to another service | as the fault it stands for | |
| anything else | INTERNAL | an id that is also in the log; nothing else leaves the process |

Every foreseen fault carries an ErrorInfo (domain "anabranch", reason in UPPER_SNAKE, metadata fault=<class>), so that
`fault_from` gives back the class that was raised. A `reason` and `facts` of the exception are told in it. A Transient
that a service maps to another code, such as RESOURCE_EXHAUSTED, keeps its RetryInfo.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no stubs
from grpc import StatusCode
from grpc.aio import AioRpcError

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

__all__ = ["CODES", "DETAILS_KEY", "Errors", "Status", "fault_from", "status_of"]

Errors = Mapping[type[BaseException], StatusCode]

DETAILS_KEY: Final = "grpc-status-details-bin"
CODES: Final[Errors] = {
    Invalid: StatusCode.INVALID_ARGUMENT,
    NotFound: StatusCode.NOT_FOUND,
    Conflict: StatusCode.ABORTED,
    TooLarge: StatusCode.INVALID_ARGUMENT,
    Denied: StatusCode.PERMISSION_DENIED,
    Unauthenticated: StatusCode.UNAUTHENTICATED,
    Transient: StatusCode.UNAVAILABLE,
    TimeoutError: StatusCode.DEADLINE_EXCEEDED,
}
_DOMAIN = "anabranch"
_CLASSES: Final[Mapping[str, type[Fault]]] = {
    kind.__name__: kind
    for kind in (
        Invalid,
        NotFound,
        Conflict,
        TooLarge,
        Denied,
        Unauthenticated,
        Transient,
        Overloaded,
        Unreachable,
    )
}
# What a status means when no ErrorInfo of ours says it better: other servers, proxies, and gRPC's own errors.
_BY_CODE: Final[Mapping[StatusCode, type[Fault]]] = {
    StatusCode.INVALID_ARGUMENT: Invalid,
    StatusCode.OUT_OF_RANGE: Invalid,
    StatusCode.UNIMPLEMENTED: Invalid,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.ALREADY_EXISTS: Conflict,
    StatusCode.FAILED_PRECONDITION: Conflict,
    StatusCode.ABORTED: Conflict,
    StatusCode.PERMISSION_DENIED: Denied,
    StatusCode.UNAUTHENTICATED: Unauthenticated,
    StatusCode.RESOURCE_EXHAUSTED: TooLarge,
    StatusCode.UNAVAILABLE: Unreachable,
    StatusCode.DEADLINE_EXCEEDED: Transient,
    StatusCode.CANCELLED: Transient,
}
_RETRY_AFTER = timedelta(seconds=1)
# Trailing metadata has 8 KiB in all; the text travels twice.
_MAX_PROBLEM = 1_000
_MAX_FIELD = 200
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a caller is told. `error_id` is set when the cause stays inside."""

    code: StatusCode
    message: str
    details: bytes = b""
    error_id: str = ""


def status_of(error: BaseException, errors: Errors = CODES) -> Status:
    """The status for an exception. `errors` is the whole table; the nearest class in the exception's MRO wins."""
    if isinstance(error, AioRpcError):
        error = _relayed(error)
    for kind in type(error).__mro__:
        code = errors.get(kind)
        if code is not None:
            return _foreseen(error, code)
    error_id = uuid4().hex[:12]
    return Status(code=StatusCode.INTERNAL, message=f"internal error {error_id}", error_id=error_id)


def fault_from(error: AioRpcError) -> Fault:
    """Give the fault that a failed call stands for, to be raised `from` it.

    A plain Fault means a bug on the other side (INTERNAL, UNKNOWN, DATA_LOSS): neither a better request nor
    patience helps.
    """
    info, field, retry_after = _read_details(error)
    problem = error.details() or error.code().name
    kind = _CLASSES.get(info.metadata.get("fault", "")) if info.domain == _DOMAIN else None
    if kind is None:
        kind = _BY_CODE.get(error.code(), Fault)
        if kind is TooLarge and retry_after is not None:
            kind = Overloaded
    if issubclass(kind, Invalid):
        if field and problem.startswith(f"{field}: "):
            problem = problem.removeprefix(f"{field}: ")
        return kind(problem, field=field, reason=info.reason)
    if issubclass(kind, Transient):
        return kind(problem, retry_after=retry_after)
    return kind(problem)


def _relayed(error: AioRpcError) -> BaseException:
    if error.code() is StatusCode.DEADLINE_EXCEEDED:
        return TimeoutError("the deadline passed")
    return fault_from(error)


def _foreseen(error: BaseException, code: StatusCode) -> Status:
    message = _cut(str(error), _MAX_PROBLEM) or code.value[1]
    kind = next((one for one in type(error).__mro__ if _CLASSES.get(one.__name__) is one), None)
    name = kind.__name__ if kind is not None else type(error).__name__
    reason = getattr(error, "reason", "") or _WORDS.sub("_", type(error).__name__).upper()
    facts = {str(key): _cut(str(value), _MAX_FIELD) for key, value in getattr(error, "facts", {}).items()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            domain=_DOMAIN, reason=_cut(str(reason), _MAX_FIELD), metadata=facts | ({"fault": name} if kind else {})
        )
    ]
    field = _cut(str(getattr(error, "field", "") or ""), _MAX_FIELD)
    if field:
        problem = _cut(str(getattr(error, "problem", "") or message), _MAX_PROBLEM)
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if code is StatusCode.UNAVAILABLE or isinstance(error, Transient):
        delay = duration_pb2.Duration()
        delay.FromTimedelta(getattr(error, "retry_after", None) or _RETRY_AFTER)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return Status(code=code, message=message, details=status.SerializeToString())


def _read_details(error: AioRpcError) -> tuple[error_details_pb2.ErrorInfo, str, timedelta | None]:
    info, field, retry_after = error_details_pb2.ErrorInfo(), "", None
    violations, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for name, value in error.trailing_metadata() or ():
        if name == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                continue
            for detail in status.details:
                if detail.Unpack(info) or not detail.Unpack(violations) or not violations.field_violations:
                    if detail.Unpack(retry):
                        retry_after = retry.retry_delay.ToTimedelta()
                    continue
                field = violations.field_violations[0].field
    return info, field, retry_after


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
