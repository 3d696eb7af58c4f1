"""The file that hands the first key to whoever runs the gateway."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path


class KeyFile:
    """A file that holds one key and nothing else, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        """Takes where it is, or will be."""
        self.path = path

    async def read(self) -> str:
        """The key in it; empty when there is no file."""
        return await asyncio.to_thread(self._read)

    async def write(self, secret: str) -> None:
        """Puts the key there, whole or not at all, with mode 0600 from its first moment."""
        await asyncio.to_thread(self._write, secret)

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return ""

    def _write(self, secret: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
