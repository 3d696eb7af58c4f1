"""Failures in OpenAI's form, with the status codes its clients act on.

| fault | status | what the `openai` package does |
| --- | --- | --- |
| Invalid | 400 | raises BadRequestError |
| Unauthenticated, Denied, NotFound | 401, 403, 404 | raises the error of that name |
| TooLarge | 413 | raises APIStatusError |
| Overloaded | 429 with Retry-After | repeats, then raises RateLimitError |
| Spent | 429 with Retry-After; of a budget `insufficient_quota` | as above; a budget's refusal is not repeated |
| other Transient | 503 with Retry-After | repeats, then raises InternalServerError |
| the deadline passed | 504 | repeats, then raises InternalServerError |
| anything else | 500 with an id that is also in the log | likewise |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

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
)
from anabranch_gateway.domain.spending import Reason, Spent
from anabranch_observability import get_logger
from anabranch_observability.names import gateway as names

log = get_logger()

# What the contract's fields are called here.
PARAMETERS: Final = {
    "corpus": "model",
    "question": "messages",
    "history": "messages",
    "user_id": "user",
    "response_schema": "response_format",
}
STATUSES: Final[tuple[tuple[type[Fault], int, str], ...]] = (
    (Unauthenticated, 401, "invalid_request_error"),
    (Denied, 403, "permission_error"),
    (NotFound, 404, "invalid_request_error"),
    (Conflict, 409, "conflict_error"),
    (TooLarge, 413, "invalid_request_error"),
    (Invalid, 400, "invalid_request_error"),
    (Overloaded, 429, "rate_limit_error"),
    (Transient, 503, "server_error"),
)
SERVER_ERROR: Final = 500


class Unsupported(Invalid):
    """The body is not JSON by its content type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failure as the caller sees it."""

    status: int
    kind: str
    problem: str
    parameter: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.problem, "type": self.kind, "param": self.parameter, "code": self.code}}


def refusal_of(error: Exception, *, route: str) -> Refusal:
    """The refusal that an exception stands for; what nobody foresaw is logged under an id and told as that id."""
    if isinstance(error, TimeoutError):
        return Refusal(status=504, kind="server_error", problem="the deadline passed", code="timeout")
    if isinstance(error, Unsupported):
        return Refusal(status=415, kind="invalid_request_error", problem=error.problem, code="unsupported_media_type")
    for kind, status, name in STATUSES:
        if isinstance(error, kind):
            refusal = _foreseen(error, status, name)
            log.info(names.Log.HTTP_REFUSED, route=route, status=status, problem=str(error))
            return refusal
    error_id = uuid4().hex[:12]
    log.error(names.Log.HTTP_FAILED, route=route, error=type(error).__name__, error_id=error_id, exc_info=error)
    return Refusal(status=SERVER_ERROR, kind="server_error", problem=f"internal error {error_id}", code="internal")


def _foreseen(error: Fault, status: int, name: str) -> Refusal:
    parameter: str | None = None
    code: str | None = None
    headers: dict[str, str] = {}
    if isinstance(error, Transient):
        seconds = math.ceil(error.retry_after.total_seconds()) if error.retry_after else 1
        code, headers = "unavailable", {"retry-after": str(seconds)}
    if isinstance(error, Overloaded):
        code = "overloaded"
    if isinstance(error, Spent):
        code = error.reason.lower()
        if error.refusal.reason in (Reason.BUDGET, Reason.UNPRICED):
            name = "insufficient_quota"
            headers["x-should-retry"] = "false"  # a window lasts longer than a client's patience
    if isinstance(error, Unauthenticated):
        code, headers = "invalid_api_key", {"www-authenticate": "Bearer"}
    elif isinstance(error, Invalid):
        head, dot, rest = error.field.partition("[")
        parameter = f"{PARAMETERS.get(head, head)}{dot}{rest}" or None
        code = error.reason.lower() or None
        if isinstance(error, NotFound) and parameter in (None, "model"):
            parameter, code = "model", "model_not_found"
    problem = f"{parameter}: {error.problem}" if parameter else error.problem
    return Refusal(status=status, kind=name, problem=problem, parameter=parameter, code=code, headers=headers)
