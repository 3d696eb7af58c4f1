"""One real Weaviate on loopback, built once from its Go module."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Self

from anabranch_local.golang import installed
from anabranch_local.process import Process, StartError, await_ready, free_port, port_is_free
from anabranch_local.server import Server

VERSION = "1.39.0"
_PACKAGE = "github.com/weaviate/weaviate/cmd/weaviate-server"
_GO = (1, 26)
_TRIES = 3


def weaviate_program(*, progress: Callable[[str], None] = lambda _: None) -> Path:
    """The server's binary; the first call on a machine builds it, in three to eight minutes on two cores."""
    return installed(_PACKAGE, f"v{VERSION}", go_version=_GO, progress=progress)


class WeaviateServer(Server):
    """A single-node Weaviate with its data in one folder; stops and starts again there, on the same ports.

    It is killed when this process dies. REST listens on loopback only. Weaviate offers no such choice for its gRPC and
    cluster ports: they listen on every interface, so give an `api_key` on a machine that others reach.

    Args:
        data_dir: Created when missing.
        http_port: REST; 0 picks a free one at the first start and keeps it.
        grpc_port: gRPC; likewise.
        api_key: Asked of every client, on every port; None lets everyone in.
        log: File for its output; `weaviate.log` in the data folder when None.
        progress: Told in a phrase what takes long.
    """

    stops_within = timedelta(seconds=30)

    def __init__(
        self,
        data_dir: Path,
        *,
        http_port: int = 0,
        grpc_port: int = 0,
        api_key: str | None = None,
        log: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = "weaviate"
        self.grace = timedelta(seconds=10)
        self.data_dir = data_dir
        self.log = log or data_dir / "weaviate.log"
        self.http_port = http_port
        self.grpc_port = grpc_port
        self._api_key = api_key
        self._progress = progress
        self._fixed_ports = http_port != 0

    @property
    def http(self) -> str:
        """`host:port` of REST."""
        return f"127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        """`host:port` of gRPC."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def probe(self) -> str:
        """How `anabranch_local.probes` asks it."""
        return f"http://{self.http}/v1/.well-known/ready"

    @property
    def process(self) -> Process:
        """The running server. Raises StartError before the first start."""
        if self._process is None:
            raise StartError("Weaviate has not been started")
        return self._process

    def launch(self) -> Process:
        """Start the server without waiting for it; builds it first where that is still to do."""
        if self._process is not None and self._process.alive:
            return self._process
        program = weaviate_program(progress=self._progress)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.http_port = self.http_port or free_port()
        self.grpc_port = self.grpc_port or free_port()
        for port in (self.http_port, self.grpc_port):
            if not port_is_free(port):
                raise StartError(f"Weaviate cannot have port {port}: it is already in use")
        command = [str(program), "--host", "127.0.0.1", "--port", str(self.http_port), "--scheme", "http"]
        self._process = Process(command, log=self.log, env=self._environment(), cwd=self.data_dir)
        return self._process

    def start(self, *, deadline: timedelta = timedelta(seconds=90)) -> Self:
        """Start the server and block until it is ready. Does nothing when it runs already.

        Raises:
            StartError: it ended, or was not ready in time.
            BuildError: it could not be built.
        """
        for attempt in range(_TRIES):
            process = self.launch()
            try:
                await_ready(process, self.answers, deadline=deadline, what="Weaviate")
            except StartError:
                process.kill()
                if self._fixed_ports or "address already in use" not in process.tail(200) or attempt == _TRIES - 1:
                    raise
                self.http_port = self.grpc_port = 0
            else:
                self._fixed_ports = True  # clients know them now
                return self
        raise AssertionError("unreachable")

    def _environment(self) -> dict[str, str]:
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
            "PERSISTENCE_DATA_PATH": str(self.data_dir),
            "DEFAULT_VECTORIZER_MODULE": "none",
            "ENABLE_MODULES": "",
            "API_BASED_MODULES_DISABLED": "true",
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "LOG_LEVEL": "warning",
            "GRPC_PORT": str(self.grpc_port),
            "GRPC_MAX_MESSAGE_SIZE": str(104_857_600),
            # A cluster of one. (CLUSTER_IN_LOCALHOST is for several on one machine: alone, it never elects itself.)
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_BIND_ADDR": "127.0.0.1",
            "CLUSTER_GOSSIP_BIND_PORT": str(free_port()),
            "CLUSTER_DATA_BIND_PORT": str(free_port()),
            "RAFT_PORT": str(free_port()),
            "RAFT_INTERNAL_RPC_PORT": str(free_port()),
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "RAFT_TIMEOUTS_MULTIPLIER": "1",  # five by default, for networks; here it is most of the time a start takes
            "AUTOSCHEMA_ENABLED": "false",  # a property nobody declared is a mistake
            # A small machine.
            "GOMEMLIMIT": "1GiB",
            "DISK_USE_READONLY_PERCENTAGE": "97",
            "DISK_USE_WARNING_PERCENTAGE": "95",
        }
        if self._api_key is None:
            return env | {"AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true"}
        return env | {
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": self._api_key,
            "AUTHENTICATION_APIKEY_USERS": "anabranch",
            "AUTHORIZATION_ADMINLIST_ENABLED": "true",
            "AUTHORIZATION_ADMINLIST_USERS": "anabranch",
            "CLUSTER_BASIC_AUTH_USERNAME": "anabranch",
            "CLUSTER_BASIC_AUTH_PASSWORD": self._api_key,
        }
