"""Pages and their tokens."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from anabranch_faults import Invalid

__all__ = ["number", "size", "token"]

_PAGE: Final = 50
_MOST: Final = 100


def size(asked: int, *, default: int = _PAGE, most: int = _MOST) -> int:
    """Return how many a page has. Raises Invalid."""
    if not 0 <= asked <= most:
        raise Invalid(f"is {asked}; allowed is 1 to {most}, or 0 for {default}", field="page_size")
    return asked or default


def token(kind: str, following: int) -> str:
    """Return what the next page is asked for with; empty at the end."""
    return base64.urlsafe_b64encode(f"{kind}:{following}".encode()).decode().rstrip("=") if following else ""


def number(kind: str, given: str) -> int:
    """Return what `token` was made from; 0 for none. Raises Invalid."""
    if not given:
        return 0
    try:
        text = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    said, _, digits = text.partition(":")
    if said != kind or not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 2**63:
        raise Invalid("was not given by this service", field="page_token", reason="UNKNOWN_TOKEN")
    return int(digits)
