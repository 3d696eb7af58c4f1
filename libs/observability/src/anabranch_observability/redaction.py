"""Keeps secrets out of log lines and span attributes: by the field's name, and by the shape of the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

__all__ = ["REDACTED", "is_secret", "redacted"]

REDACTED = "[redacted]"
_MAX_TEXT = 8_192
_MAX_DEPTH = 6
_NAMES = re.compile(
    r"(^|_|\.)(authorization|key|keys|password|passwd|pwd|passphrase|secret|secrets|token|credential|credentials"
    r"|cookie|apikey|bearer)$"
)
# Kafka keys and object keys are addresses, not credentials: they have names of their own.
_PUBLIC = frozenset({"record_key", "object_key", "partition_key", "key_file"})
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*):[^@\s/]+@")
_ASSIGNED = re.compile(r"(?i)\b(password|passwd|secret|api[_-]?key|access[_-]?token)(\s*[=:]\s*)[^\s,;&'\"]+")


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Does a field of this name hold a secret?"""
    lowered = name.lower().replace("-", "_")
    return lowered not in _PUBLIC and _NAMES.search(lowered) is not None


def redacted(value: Any, *, name: str = "", depth: int = 0) -> Any:
    """`value` with secrets replaced, texts cut to 8 KiB, and mappings and lists followed six deep."""
    if value is None or isinstance(value, bool):
        return value
    if name and is_secret(name):
        return REDACTED
    if isinstance(value, (int, float)):
        return value
    return _text(value) if isinstance(value, str) else _nested(value, depth)


def _nested(value: Any, depth: int) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth >= _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): redacted(item, name=str(key), depth=depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(item, depth=depth + 1) for item in value]
    return _text(str(value))


def _text(value: str) -> str:
    if len(value) > _MAX_TEXT:
        value = f"{value[:_MAX_TEXT]}... ({len(value)} characters)"
    # Most texts hold none of the three marks; the regular expressions run on those that do.
    if "://" in value and "@" in value:
        value = _URL_PASSWORD.sub(rf"\1:{REDACTED}@", value)
    lowered = value.lower()
    if "bearer " in lowered or "basic " in lowered:
        value = _BEARER.sub(rf"\1 {REDACTED}", value)
    if "=" in value or ":" in value:
        value = _ASSIGNED.sub(rf"\1\2{REDACTED}", value)
    return value
