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


def bytecode_environment() -> dict[str, str]:
    """Variables for Python processes: where none may lie beside the sources, bytecode is kept in the cache.

    Compiling is most of what a start of a service takes.
    """
    if not os.environ.get("PYTHONDONTWRITEBYTECODE") or os.environ.get("PYTHONPYCACHEPREFIX"):
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(cache_dir() / "bytecode")}


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold the machine-wide lock of one cached thing, so that it is fetched or built once. Blocks."""
    folder = cache_dir()
    with FileLock(folder / f"{name}.lock"):
        yield folder
