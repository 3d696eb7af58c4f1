"""Placeholders that stand for personal data, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["restored"]


def restored(text: str, vault: Mapping[str, str]) -> str:
    """`text` with what its placeholders stand for; in one pass, so that what comes back is not looked at again."""
    if not vault or not any(placeholder in text for placeholder in vault):
        return text
    pattern = "|".join(re.escape(placeholder) for placeholder in sorted(vault, key=len, reverse=True))
    return re.sub(pattern, lambda found: vault[found[0]], text)
