"""Where downloads and builds are kept between runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/anabranch`, by default `~/.cache/anabranch`. It may be deleted at any time: it fills again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "anabranch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold the machine-wide lock of one cached thing, so that it is fetched or built once. Blocks."""
    folder = cache_dir()
    with FileLock(folder / f"{name}.lock"):
        yield folder
