"""What it takes to make a model again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Final

import anabranch_training

__all__ = ["LIBRARIES", "origin_of"]

LIBRARIES: Final = ("lightgbm", "numpy", "safetensors", "scipy")
_LOCK: Final = "requirements.lock"


def origin_of(
    *, seed: int, dataset_digest: str, parameters: Mapping[str, str], libraries: Sequence[str] = LIBRARIES
) -> dict[str, str]:
    """Seed, digests of lock, code and data, versions of libraries, parameters."""
    package = Path(anabranch_training.__file__).parent
    return {
        "seed": str(seed),
        "lock_digest": _lock(package),
        "code_version": f"{version('anabranch-training')}+{_code(package)[:12]}",
        "dataset_digest": dataset_digest,
        "python": platform.python_version(),
        **{f"library.{name}": version(name) for name in libraries},
        **{f"parameter.{name}": value for name, value in parameters.items()},
    }


def _lock(package: Path) -> str:
    """Of the lock file of the checkout; installed without one, of everything that is installed."""
    for folder in package.parents:
        if (folder / _LOCK).is_file():
            return hashlib.sha256((folder / _LOCK).read_bytes()).hexdigest()
    return _digest(sorted({f"{one.metadata['Name']}=={one.version}" for one in distributions()}))


def _code(package: Path) -> str:
    files = sorted(package.rglob("*.py"))
    return _digest([f"{file.relative_to(package)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files])


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
