"""Ids that follow from names."""

from __future__ import annotations

import hashlib
from uuid import UUID


def id_of(namespace: UUID, *parts: str) -> str:
    """As `str(uuid5(namespace, ...))` of the parts, one a line, and several times as fast: each feedback has two."""
    name = "\n".join(parts).encode()
    made = bytearray(hashlib.sha1(namespace.bytes + name, usedforsecurity=False).digest()[:16])
    made[6] = made[6] & 0x0F | 0x50
    made[8] = made[8] & 0x3F | 0x80
    text = made.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
