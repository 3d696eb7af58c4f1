"""Names of the observability library itself."""

from __future__ import annotations

from anabranch_observability.names.kinds import LogEvent

__all__ = ["Log"]


class Log(LogEvent):
    """Log events."""

    LIBRARY_LOGGED = "library.logged"  # a line of a third-party library; its words are in `text`
    UNDECLARED_LOGGED = "undeclared.logged"  # a line whose event is not in the list; its words are in `text`
