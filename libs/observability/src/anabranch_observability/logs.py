"""structlog, set up once a process: one line an event on standard error, JSON or pretty, trace ids in every line."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, Protocol, TextIO, cast

import structlog
from opentelemetry import trace

from anabranch_observability.names import LogEvent
from anabranch_observability.names.observability import Log
from anabranch_observability.redaction import redacted

__all__ = ["Format", "Level", "Logger", "bind", "configure_logs", "get_logger"]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "pretty", "auto"]
_Line = MutableMapping[str, Any]

# Their chatter at INFO is about themselves (heartbeats, rebalances); what matters is logged by whoever uses them.
_QUIET = (
    "aiokafka",
    "aiosqlite",
    "faststream",
    "httpx",
    "httpcore",
    "urllib3",
    "uvicorn",
    "sqlalchemy",
    "alembic",
    "grpc",
    "asyncio",
)


_processors: list[Any] = []


class _Stderr:
    """Standard error as it is at the time of writing: it may have been redirected since the logger was made."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class Logger(Protocol):
    """What services log with. An event is a member of the closed list; values become fields."""

    def debug(self, event: LogEvent, **values: Any) -> None:
        """For whoever debugs."""

    def info(self, event: LogEvent, **values: Any) -> None:
        """Something happened as it should."""

    def warning(self, event: LogEvent, **values: Any) -> None:
        """Something is odd; nobody needs to act now."""

    def error(self, event: LogEvent, **values: Any) -> None:
        """Something failed that somebody must look at."""

    def exception(self, event: LogEvent, **values: Any) -> None:
        """As error, with the traceback of the exception being handled."""

    def bind(self, **values: Any) -> Logger:
        """A logger whose every line has these fields."""


def get_logger(**values: Any) -> Logger:
    """A logger; cheap, and may be made before `configure()`."""
    return cast("Logger", structlog.get_logger(**values))


def bind(**values: Any) -> None:
    """Add fields to every line of this task and of the tasks it starts from now on."""
    structlog.contextvars.bind_contextvars(**values)


def configure_logs(*, service: str, level: Level, format: Format) -> None:  # noqa: A002  the setting's name
    """Set logging up for this process, that of third-party libraries included."""
    number = logging.getLevelNamesMapping()[level.upper()]

    def identify(_logger: Any, _method: str, line: _Line) -> _Line:
        line["service"] = service
        return line

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        identify,
        _trace_ids,
    ]
    last: list[Any] = [structlog.processors.format_exc_info, _redact]
    pretty = format == "pretty" or (format == "auto" and sys.stderr.isatty())
    if pretty:
        last = [
            structlog.processors.format_exc_info,
            _redact,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
    else:
        last += [_in_order, structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
    # The same list every time: loggers that were made before keep it, and follow.
    _processors[:] = [*shared, _declared_only, *last]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    _bridge(number, shared, last)


def _bridge(level: int, shared: list[Any], last: list[Any]) -> None:
    handler = logging.StreamHandler(cast("TextIO", _Stderr()))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _foreign],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _trace_ids(_logger: Any, _method: str, line: _Line) -> _Line:
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        line["trace_id"] = f"{current.trace_id:032x}"
        line["span_id"] = f"{current.span_id:016x}"
    return line


def _declared_only(_logger: Any, _method: str, line: _Line) -> _Line:
    event = line["event"]
    if isinstance(event, LogEvent):
        line["event"] = event.value
    else:
        # The type checker refuses this; a line that slips through is kept, under a name that can be searched for.
        line["text"], line["event"] = str(event), Log.UNDECLARED_LOGGED.value
    return line


def _foreign(_logger: Any, _method: str, line: _Line) -> _Line:
    record = line.get("_record")
    line["text"], line["event"] = str(line["event"]), Log.LIBRARY_LOGGED.value
    if isinstance(record, logging.LogRecord):
        line["library"] = record.name
    return line


def _redact(_logger: Any, _method: str, line: _Line) -> _Line:
    return {name: redacted(value, name=name) for name, value in line.items()}


def _in_order(_logger: Any, _method: str, line: _Line) -> _Line:
    first = {name: line.pop(name) for name in ("timestamp", "level", "service", "event") if name in line}
    return {**first, **line}
