"""A whole platform for tests that cross services: started as its users start it, driven as they drive it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anabranch_client import Anabranch

__all__ = ["RunningPlatform", "running_platform"]

BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPlatform:
    """A started platform: its endpoints, and the command line against it."""

    data: Path
    tenant: str
    grpc: str
    http: str
    kafka: str
    key: str

    @property
    def environment(self) -> dict[str, str]:
        """For programs that find the platform as a person at a terminal would."""
        return {**os.environ, "ANABRANCH_DATA_DIR": str(self.data), "PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `anabranch`; `timeout` in seconds."""
        return subprocess.run(  # noqa: S603  the project's own command
            [str(BIN / "anabranch"), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )

    def json(self, *arguments: str, code: int = 0, timeout: float = 120) -> Any:
        """What `anabranch ... --json` printed; AssertionError with what it said when the exit code is another."""
        done = self.run(*arguments, "--json", timeout=timeout)
        if done.returncode != code:
            raise AssertionError(f"exit {done.returncode}: {done.stderr[-2000:]}{done.stdout[-500:]}")
        return json.loads(done.stdout)

    def client(self) -> Anabranch:
        """A client with the platform's key; use it as a context manager."""
        return Anabranch(endpoint=self.grpc, key=self.key)


@contextmanager
def running_platform(data: Path, *options: str) -> Iterator[RunningPlatform]:
    """Starts a platform in `data` with options of `anabranch up`, and stops it. A cold cache may take minutes."""
    anabranch = str(BIN / "anabranch")
    try:
        up = subprocess.run(  # noqa: S603  the project's own command
            [anabranch, "up", "--detach", "--data", str(data), *options],
            check=False,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if up.returncode != 0:
            raise AssertionError(f"anabranch up: exit {up.returncode}: {up.stderr[-4000:]}{up.stdout[-2000:]}")
        shown = subprocess.run(  # noqa: S603  the project's own command
            [anabranch, "status", "--data", str(data), "--json"], check=True, capture_output=True, text=True
        )
        status = json.loads(shown.stdout)
        yield RunningPlatform(
            data=data,
            tenant=status["tenant"],
            grpc=status["endpoints"]["grpc"],
            http=status["endpoints"]["http"],
            kafka=status["endpoints"]["kafka"],
            key=Path(status["key_file"]).read_text().strip(),
        )
    finally:
        subprocess.run(  # noqa: S603  the project's own command
            [anabranch, "down", "--data", str(data)], check=False, capture_output=True, timeout=90
        )
