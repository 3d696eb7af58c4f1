"""What an error asks of its caller.

    Fault
    ├── Invalid            the request can never work: change it, do not repeat it
    │   ├── NotFound       what it names does not exist (for this caller)
    │   ├── Conflict       the world moved on: read again, then decide
    │   ├── TooLarge       over a limit
    │   └── Denied         the caller may not do this
    │       └── Unauthenticated   nobody knows who the caller is
    └── Transient          the same request may work later: repeat it with back-off
        ├── Overloaded     the callee is full: wait `retry_after`; no attempt is charged
        └── Unreachable    a dependency is away: wait; no attempt is charged

Buses turn Invalid into a dead letter, Transient into a retry, Overloaded and Unreachable into a pause; RPC servers
turn each into one status code. Standard library only, so that a domain may raise them.
"""

from __future__ import annotations

from datetime import timedelta

__all__ = [
    "Conflict",
    "Denied",
    "Fault",
    "Invalid",
    "NotFound",
    "Overloaded",
    "TooLarge",
    "Transient",
    "Unauthenticated",
    "Unreachable",
]


class Fault(Exception):  # noqa: N818  the tree reads as what went wrong, not as FaultError
    """Base of all errors that were foreseen. `str()` is one sentence for people, free of secrets."""

    def __init__(self, problem: str) -> None:
        """Takes the sentence."""
        super().__init__(problem)
        self.problem = problem


class Invalid(Fault):
    """The request can never work. `field` names the part at fault (dotted path), empty when it is all of it."""

    def __init__(self, problem: str, *, field: str = "", reason: str = "") -> None:
        """Takes the sentence, the field at fault and an UPPER_SNAKE reason for programs."""
        super().__init__(problem)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        """`field: problem`."""
        return f"{self.field}: {self.problem}" if self.field else self.problem


class NotFound(Invalid):
    """What the request names does not exist, or not for this caller."""


class Conflict(Invalid):
    """The state is not what the caller took it to be."""


class TooLarge(Invalid):
    """A limit on size, count or length was passed; the sentence names limit and value."""


class Denied(Invalid):
    """The caller is known and may not do this."""


class Unauthenticated(Denied):
    """The caller is not known."""


class Transient(Fault):
    """The same request may work later. `retry_after` is a hint, None when there is none."""

    def __init__(self, problem: str, *, retry_after: timedelta | None = None) -> None:
        """Takes the sentence and how long to wait."""
        super().__init__(problem)
        self.retry_after = retry_after


class Overloaded(Transient):
    """The callee is full; waiting costs no attempt."""


class Unreachable(Transient):
    """A dependency is away; waiting costs no attempt."""
