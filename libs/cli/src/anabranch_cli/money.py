"""Dollars, millionths of them, and lengths of time, as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

import click

__all__ = ["amount", "dollars", "length", "micros", "moment_before", "windowed"]

_UNITS: Final = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_LENGTH: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_MICROS: Final = 1_000_000
_PLAIN: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


def length(text: str) -> timedelta:
    """`30m`, `24h`, `7d` or `2w`. Raises UsageError."""
    found = _LENGTH.fullmatch(text)
    if found is None or not int(found[1]):
        raise click.UsageError(f"{text!r} is no length of time, such as 30m, 24h, 7d or 2w")
    return int(found[1]) * _UNITS[found[2]]


def moment_before(text: str, now: datetime) -> datetime:
    """How long ago (`7d`), or a day or time as ISO 8601 has it (UTC, unless it says otherwise). Raises UsageError."""
    if _LENGTH.fullmatch(text):
        return now - length(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{text!r} is neither as 7d, nor as 2026-11-21") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def micros(text: str) -> int:
    """Dollars, such as 0.15, in millionths: exactly, or not at all. Raises UsageError."""
    try:
        return int(Decimal(_PLAIN.fullmatch(text)[0]) * _MICROS)  # type: ignore[index]  # None is caught
    except (InvalidOperation, TypeError) as error:
        raise click.UsageError(
            f"{text!r} is no amount in dollars, such as 12 or 0.15, with at most 6 decimals"
        ) from error


def windowed(text: str) -> tuple[timedelta, int]:
    """`1d=5.00`: what may be spent within a window. Raises UsageError."""
    window, equals, money = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text!r} is not WINDOW=DOLLARS, such as 1d=5.00")
    return length(window), micros(money)


def dollars(amount_: int) -> str:
    """Millionths as dollars: cents at least, more digits only where they say something."""
    text = f"{Decimal(amount_) / _MICROS:,.6f}"
    whole, _, digits = text.partition(".")
    return f"${whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def amount(spent: timedelta) -> str:
    """A length of time as it would be written: the largest unit that fits."""
    for unit in ("d", "h", "m"):
        if spent % _UNITS[unit] == timedelta(0):
            return f"{spent // _UNITS[unit]}{unit}"
    return f"{spent.total_seconds():g}s"
