"""What may be called what. Each check returns the value or raises Invalid naming the field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from anabranch_faults import Invalid, TooLarge

TENANT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
CORPUS: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
METADATA_KEY: Final = re.compile(r"[a-z0-9_]{1,63}")

QUESTION_CHARACTERS: Final = 4_096
NAME_CHARACTERS: Final = 128
DOCUMENT_ID_CHARACTERS: Final = 512
METADATA_KEYS: Final = 32
METADATA_CHARACTERS: Final = 1_024
LABELS: Final = 64
DOCUMENT_BYTES: Final = 64 * 1024
DOCUMENT_DEPTH: Final = 32


def tenant(value: str, *, field: str = "tenant") -> str:
    """1 to 64 of A-Z a-z 0-9 . _ -."""
    if not TENANT.fullmatch(value):
        raise Invalid("must be 1 to 64 of A-Z a-z 0-9 . _ -", field=field, reason="INVALID_NAME")
    return value


def corpus(value: str, *, field: str = "corpus") -> str:
    """1 to 128 of A-Z a-z 0-9 . _ -."""
    if not CORPUS.fullmatch(value):
        raise Invalid("must be 1 to 128 of A-Z a-z 0-9 . _ -", field=field, reason="INVALID_NAME")
    return value


def document_id(value: str, *, field: str = "document_id") -> str:
    """1 to 512 characters, none of them a control character."""
    if not 1 <= len(value) <= DOCUMENT_ID_CHARACTERS or _has_control(value):
        raise Invalid(
            f"must be 1 to {DOCUMENT_ID_CHARACTERS} characters without control characters",
            field=field,
            reason="INVALID_NAME",
        )
    return value


def handle(value: str, *, field: str) -> str:
    """A name given by the caller's system: empty, or up to 128 characters without control characters."""
    if len(value) > NAME_CHARACTERS:
        raise TooLarge(f"has {len(value)} characters; at most {NAME_CHARACTERS} are taken", field=field)
    if _has_control(value):
        raise Invalid("holds control characters", field=field, reason="INVALID_NAME")
    return value


def question(value: str, *, field: str) -> str:
    """1 to 4,096 characters, not all of them blank."""
    if len(value) > QUESTION_CHARACTERS:
        raise TooLarge(f"has {len(value)} characters; at most {QUESTION_CHARACTERS} are taken", field=field)
    if not value.strip():
        raise Invalid("is empty", field=field, reason="EMPTY")
    return value


def text(value: str, *, field: str, limit: int) -> str:
    """At most so many characters."""
    if len(value) > limit:
        raise TooLarge(f"has {len(value)} characters; at most {limit} are taken", field=field)
    return value


def texts(values: Sequence[str], *, field: str, number: int, limit: int) -> Sequence[str]:
    """At most so many, of at most so many characters each."""
    if len(values) > number:
        raise TooLarge(f"has {len(values)} entries; at most {number} are taken", field=field)
    for position, value in enumerate(values):
        text(value, field=f"{field}[{position}]", limit=limit)
    return values


def metadata(values: Mapping[str, str], *, field: str) -> Mapping[str, str]:
    """At most 32 keys of [a-z0-9_]{1,63}, values of at most 1,024 characters."""
    if len(values) > METADATA_KEYS:
        raise TooLarge(f"has {len(values)} keys; at most {METADATA_KEYS} are taken", field=field)
    for key, value in values.items():
        if not METADATA_KEY.fullmatch(key):
            raise Invalid(f"key {key[:80]!r} must be 1 to 63 of a-z 0-9 _", field=field, reason="INVALID_NAME")
        if len(value) > METADATA_CHARACTERS:
            raise TooLarge(
                f"has {len(value)} characters; at most {METADATA_CHARACTERS} are taken", field=f"{field}.{key}"
            )
    return values


def document(value: Mapping[str, object], *, field: str) -> Mapping[str, object]:
    """A JSON object of at most 64 KiB, at most 32 deep, without numbers that JSON has not."""
    _plain(value, field=field, depth=DOCUMENT_DEPTH)
    size = len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    if size > DOCUMENT_BYTES:
        raise TooLarge(f"has {size} bytes as JSON; at most {DOCUMENT_BYTES} are taken", field=field)
    return value


def _plain(value: object, *, field: str, depth: int) -> None:
    if depth < 0:
        raise TooLarge(f"is nested deeper than {DOCUMENT_DEPTH}", field=field)
    match value:
        case float() if not math.isfinite(value):
            raise Invalid("holds a number that is not finite", field=field, reason="OUT_OF_RANGE")
        case str() | bool() | int() | float() | None:
            return
        case Mapping():
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise Invalid("has a name that is no string", field=field, reason="MALFORMED")
                _plain(inner, field=field, depth=depth - 1)
        case Sequence():
            for inner in value:
                _plain(inner, field=field, depth=depth - 1)
        case _:
            raise Invalid("holds what JSON has not", field=field, reason="MALFORMED")


def labels(values: Sequence[str], *, field: str) -> tuple[str, ...]:
    """At most 64 ACL labels of 1 to 128 characters, each once, sorted."""
    if len(values) > LABELS:
        raise TooLarge(f"has {len(values)} labels; at most {LABELS} are taken", field=field)
    for position, value in enumerate(values):
        if not value:
            raise Invalid("is empty", field=f"{field}[{position}]", reason="EMPTY")
        handle(value, field=f"{field}[{position}]")
    return tuple(sorted(set(values)))


def _has_control(value: str) -> bool:
    return CONTROL.search(value) is not None
