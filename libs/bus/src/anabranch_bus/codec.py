"""Bytes to records. Nothing here raises for what a record holds: what cannot be read is an `Unreadable`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from anabranch.topics import Topic
from anabranch_bus.events import CONTENT_TYPE, JSON, PROTOBUF, record_id
from anabranch_bus.records import Raw, Record, Unreadable

__all__ = ["read", "readable_headers"]

M = TypeVar("M", bound=Message)

_PROTOBUF_TYPES: Final = frozenset({PROTOBUF, "application/x-protobuf", "application/octet-stream"})
_JSON_TYPES: Final = frozenset({JSON, "text/json"})
_PROBLEM_LENGTH: Final = 500


def readable_headers(raw: Raw) -> dict[str, str]:
    """Return headers as text; bytes that are not UTF-8 are shown, not refused. The last of equal names holds."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in raw.headers}


def read(topic: Topic[M], raw: Raw) -> Record[M] | Unreadable:
    """Return the record, or why it is none."""
    headers = readable_headers(raw)
    event_id = headers.get("ce_id") or record_id(raw.topic, raw.partition, raw.offset)
    time = _time(headers, raw.timestamp)
    try:
        key = (raw.key or b"").decode()
        message = _message(topic, raw.value, headers)
    except (ValueError, RecursionError) as error:
        return Unreadable(
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            key=(raw.key or b"").decode("utf-8", "replace"),
            value=raw.value or b"",
            event_id=event_id,
            time=time,
            headers=headers,
            problem=_problem(error),
        )
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=key,
        message=message,
        event_id=event_id,
        time=time,
        headers=headers,
    )


def _message(topic: Topic[Any], value: bytes | None, headers: Mapping[str, str]) -> Any:
    name = topic.message.DESCRIPTOR.full_name
    if value is None:
        raise ValueError(f"there is no body; {topic.name} carries {name}")
    stated = headers.get(CONTENT_TYPE, "").split(";", 1)[0].strip().lower()
    # A plain producer such as kcat sets no content type; no protobuf message of ours can begin with this byte, which
    # would open a group.
    if stated in _JSON_TYPES or (not stated and value[:1] == b"{"):
        return _from_json(topic, value, name)
    if stated and stated not in _PROTOBUF_TYPES:
        raise ValueError(f"content-type {stated!r} is neither {PROTOBUF} nor {JSON}")
    try:
        return topic.message.FromString(value)
    except DecodeError as error:
        raise ValueError(f"the body is not {name} as protobuf: {error}") from error


def _from_json(topic: Topic[Any], value: bytes, name: str) -> Any:
    try:
        return json_format.Parse(value.decode(), topic.message())
    except UnicodeDecodeError as error:
        raise ValueError(f"the JSON body is not UTF-8 at byte {error.start}") from error
    except json_format.ParseError as error:
        raise ValueError(f"the body is not {name} as protobuf-JSON: {error}") from error


def _time(headers: Mapping[str, str], otherwise: datetime) -> datetime:
    try:
        time = datetime.fromisoformat(headers["ce_time"])
    except (KeyError, ValueError):
        return otherwise
    return time if time.tzinfo else otherwise


def _problem(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"the key is not UTF-8 at byte {error.start}"
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    return str(error)[:_PROBLEM_LENGTH]
