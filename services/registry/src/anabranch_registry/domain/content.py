"""Documents named by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["plain", "version_of"]


def plain(value: Any) -> Any:
    """Return a document with whole numbers as such: 1.0 and 1 are one number, as they are one on the wire."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def version_of(prefix: str, document: Mapping[str, Any], *, without: frozenset[str]) -> str:
    """Return the prefix and the first 12 hex digits of the sha256 over the canonical form.

    That is JSON: keys sorted, no spaces, what is unset left out; `without` names fields that make no difference.
    """
    content = plain({key: value for key, value in document.items() if key not in without})
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{prefix}{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"
