"""Small rules that fields share; each raises Invalid with the field at fault."""

from __future__ import annotations

import math
import re
from typing import Final

from anabranch_faults import Invalid, TooLarge

__all__ = ["check_identifier", "check_length", "check_number", "check_required"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")


def check_number(value: float, field: str, least: float, most: float) -> None:
    """`least` to `most`, both included; never NaN."""
    if math.isnan(value) or not least <= value <= most:
        raise Invalid(f"is {value:g}; allowed is {least:g} to {most:g}", field=field, reason="OUT_OF_RANGE")


def check_length(value: str, field: str, most: int) -> None:
    """At most `most` characters."""
    if len(value) > most:
        raise TooLarge(f"has {len(value):,} characters; the limit is {most:,}", field=field, reason="TOO_LONG")


def check_required(value: str, field: str, most: int) -> None:
    """Something to read, of at most `most` characters."""
    if not value.strip():
        raise Invalid("is missing", field=field, reason="MISSING")
    check_length(value, field, most)


def check_identifier(value: str, field: str, most: int = 128) -> None:
    """Empty, or a name as models, adapters and versions have one."""
    check_length(value, field, most)
    if value and not _IDENTIFIER.fullmatch(value):
        raise Invalid(
            f"{value!r} is no name: letters, digits and . _ : / @ - only, the first a letter or digit",
            field=field,
            reason="NOT_A_NAME",
        )
