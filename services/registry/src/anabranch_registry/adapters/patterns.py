"""RE2 patterns, which match in linear time whatever they are."""

from __future__ import annotations

import re2  # type: ignore[import-untyped]  # ships no stubs

__all__ = ["problem_of"]

_MEMORY = 1 << 20
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = _MEMORY


def problem_of(pattern: str) -> str:
    """Say what is wrong with a pattern; empty: nothing."""
    try:
        re2.compile(pattern, options=_OPTIONS)
    except re2.error as error:
        said = error.args[0]
        return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    except UnicodeEncodeError:
        return "is no text"
    return ""
