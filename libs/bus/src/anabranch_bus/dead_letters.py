"""Dead letters: a record that could not be handled, as it was, with where it came from and what went wrong.

Value, key and headers are the original bytes; provenance is added in headers that begin with `dlq_`.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from anabranch_bus.codec import readable_headers
from anabranch_bus.events import Encoded, record_id
from anabranch_bus.records import Raw

__all__ = ["Cause", "DeadLetter", "Death", "bury", "exhume", "mark", "marked", "name_of", "place_of"]

PREFIX: Final = "dlq_"
MARK: Final = "dlq_mark"
REPLAYS: Final = "anabranch_replays"
_REASON_LENGTH: Final = 2_000


class Cause(Enum):
    """Why a record is dead."""

    UNREADABLE = "unreadable"
    """Its bytes are not the topic's message."""
    INVALID = "invalid"
    """The handler said that it can never work."""
    EXHAUSTED = "exhausted"
    """It failed for a passing reason more often than allowed."""
    BUG = "bug"
    """The handler raised what it should not."""
    KILLED = "killed"
    """The process died, or had to be stopped, whenever it handled this record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """What went wrong. `error` is the class of the exception, `reason` its sentence."""

    cause: Cause
    error: str
    reason: str
    attempts: int
    first_seen: datetime
    group: str
    code_version: str
    reason_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record in a dead-letter topic. `topic`, `partition`, `offset` and `time` are those of the origin."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    event_id: str
    time: datetime
    headers: Mapping[str, str]
    raw_key: bytes | None
    raw_headers: tuple[tuple[str, bytes], ...]
    cause: Cause
    error: str
    reason: str
    reason_code: str
    attempts: int
    first_seen: datetime
    died_at: datetime
    group: str
    code_version: str
    replays: int
    no_body: bool
    body_omitted: bool
    letter_topic: str
    letter_partition: int
    letter_offset: int

    @property
    def place(self) -> str:
        """`topic/partition@offset` of the letter itself: its name in the command line."""
        return f"{self.letter_topic}/{self.letter_partition}@{self.letter_offset}"


def name_of(error: BaseException) -> str:
    """Return the class of an error, with its module unless it is a builtin."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def place_of(error: BaseException) -> str:
    """Return where an error was raised: what one needs to find a bug, without the values in the stack."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].name}, {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""


def bury(raw: Raw, death: Death, *, died_at: datetime, omit_body: bool = False) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of the dead letter made of `raw`."""
    stated = readable_headers(raw).get("ce_id")
    added = {
        "topic": raw.topic,
        "partition": str(raw.partition),
        "offset": str(raw.offset),
        "timestamp": raw.timestamp.isoformat(),
        "event_id": stated or record_id(raw.topic, raw.partition, raw.offset),
        "group": death.group,
        "cause": death.cause.value,
        "error": death.error,
        "reason": death.reason[:_REASON_LENGTH],
        "attempts": str(death.attempts),
        "first_seen": death.first_seen.isoformat(),
        "died_at": died_at.isoformat(),
        "code_version": death.code_version,
    }
    if death.reason_code:
        added["reason_code"] = death.reason_code
    if raw.value is None:
        added["no_body"] = "true"
    if omit_body:
        added["body_omitted"] = "true"
    # A record that was replayed and died again keeps one set of provenance: the latest.
    kept = tuple((name, value) for name, value in raw.headers if not name.startswith(PREFIX))
    return kept + tuple((PREFIX + name, value.encode()) for name, value in added.items())


def mark(letter: DeadLetter, *, at: datetime) -> Encoded:
    """Return a note for the dead-letter topic that `letter` was replayed; the letter itself cannot be changed."""
    headers = {MARK: f"{letter.letter_partition}@{letter.letter_offset}", "dlq_marked_at": at.isoformat()}
    return Encoded(
        topic=letter.letter_topic,
        key=letter.raw_key or b"",
        value=b"",
        headers=tuple((name, value.encode()) for name, value in headers.items()),
    )


def marked(raw: Raw) -> tuple[int, int] | None:
    """Return (partition, offset) of the letter that `raw` notes as replayed; None when `raw` is a letter."""
    note = next((value.decode("ascii", "replace") for name, value in raw.headers if name == MARK), None)
    if note is None:
        return None
    partition, _, offset = note.partition("@")
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else (-1, -1)


def exhume(raw: Raw) -> DeadLetter:
    """Return the dead letter that `raw`, a record of a dead-letter topic, is. Missing provenance is left empty."""
    headers = readable_headers(raw)
    original = tuple((name, value) for name, value in raw.headers if not name.startswith(PREFIX))

    def text(name: str) -> str:
        return headers.get(PREFIX + name, "")

    def number(name: str) -> int:
        return int(text(name)) if text(name).isdigit() else 0

    def moment(name: str) -> datetime:
        try:
            return datetime.fromisoformat(text(name)).astimezone(UTC)
        except ValueError:
            return raw.timestamp

    return DeadLetter(
        topic=text("topic"),
        partition=number("partition"),
        offset=number("offset"),
        key=(raw.key or b"").decode("utf-8", "replace"),
        value=raw.value or b"",
        event_id=text("event_id"),
        time=moment("timestamp"),
        headers={name: value.decode("utf-8", "replace") for name, value in original},
        raw_key=raw.key,
        raw_headers=original,
        cause=Cause(text("cause")) if text("cause") in {c.value for c in Cause} else Cause.BUG,
        error=text("error"),
        reason=text("reason"),
        reason_code=text("reason_code"),
        attempts=number("attempts"),
        first_seen=moment("first_seen"),
        died_at=moment("died_at"),
        group=text("group"),
        code_version=text("code_version"),
        replays=int(headers[REPLAYS]) if headers.get(REPLAYS, "").isdigit() else 0,
        no_body=text("no_body") == "true",
        body_omitted=text("body_omitted") == "true",
        letter_topic=raw.topic,
        letter_partition=raw.partition,
        letter_offset=raw.offset,
    )
