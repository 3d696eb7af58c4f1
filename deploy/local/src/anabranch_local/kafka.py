"""One real Kafka broker on loopback: KRaft, combined node, no Docker."""

from __future__ import annotations

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

from anabranch_local.jars import kafka_classpath
from anabranch_local.java import find_java
from anabranch_local.process import Process, StartError, await_ready, free_port, port_is_free, tail
from anabranch_local.server import Server

_TRIES = 3


class KafkaServer(Server):
    """A broker with its data in one folder; stops and starts again there, on the same port.

    It is killed when this process dies. Topics are never created by use. Not thread-safe.

    Args:
        data_dir: Created when missing; holds the log segments and the configuration.
        port: Port of the clients' listener; 0 picks a free one at the first start and keeps it.
        heap: Java heap, as `-Xmx` takes it.
        logs: Folder of `kafka.log` and of what Java itself prints; the data folder when None.
        progress: Told in a phrase what takes long.
    """

    stops_within = timedelta(seconds=20)

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        heap: str = "512m",
        logs: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = "kafka"
        self.grace = timedelta(seconds=10)
        self.data_dir = data_dir
        self._logs = logs or data_dir
        self.port = port
        self._fixed_port = port != 0
        self._heap = heap
        self._progress = progress

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> Process:
        """The running broker. Raises StartError before the first start."""
        if self._process is None:
            raise StartError("Kafka has not been started")
        return self._process

    @property
    def probe(self) -> str:
        """How `anabranch_local.probes` asks it."""
        return f"kafka://{self.bootstrap}"

    @property
    def log(self) -> Path:
        """The broker's own log. It bounds its size itself."""
        return self._logs / "kafka.log"

    def launch(self) -> Process:
        """Format the folder if it is new and start the broker, without waiting for it. Blocks for a second or two."""
        if self._process is not None and self._process.alive:
            return self._process
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        if not self.port:
            self.port = free_port()
        elif not port_is_free(self.port):
            raise StartError(f"Kafka cannot have port {self.port}: it is already in use")
        config = self._configure()
        java = self._java()
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._progress("formatting Kafka's storage")
            cluster = "a" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # a dash in front would be an option
            command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
            if done.returncode:
                raise StartError(f"formatting Kafka's storage failed:\n{done.stdout}{done.stderr}\n{tail(self.log)}")
        self._process = Process([*java, "kafka.Kafka", str(config)], log=self._logs / "kafka.out")
        return self._process

    def start(self, *, deadline: timedelta = timedelta(seconds=60)) -> Self:
        """Start the broker and block until it answers. Does nothing when it runs already.

        Raises:
            StartError: it ended, or did not answer in time.
        """
        for attempt in range(_TRIES):
            process = self.launch()
            try:
                await_ready(process, self.answers, deadline=deadline, what="Kafka")
            except StartError as error:
                process.kill()
                lost_the_race = "already in use" in tail(self.log) + process.tail()
                if self._fixed_port or not lost_the_race or attempt == _TRIES - 1:
                    raise StartError(f"{error}\n{tail(self.log)}") from None
                self.port = 0
            else:
                self._fixed_port = True  # clients know it now
                return self
        raise AssertionError("unreachable")

    def _java(self) -> list[str]:
        log4j = Path(__file__).with_name("log4j2.properties")
        return [
            str(find_java()),
            f"-Xmx{self._heap}",
            "-Xms96m",
            "-XX:+UseSerialGC",  # two cores, a small heap: fewer threads and less memory than G1
            "-XX:TieredStopAtLevel=1",  # starts in half the processor time; throughput is not a local broker's job
            "-XX:+ExitOnOutOfMemoryError",
            "-Xshare:auto",
            "-Djava.awt.headless=true",
            "-Djava.net.preferIPv4Stack=true",
            f"-Dlog4j2.configurationFile={log4j.as_uri()}",
            f"-Dkafka.log={self.log}",
            "-cp",
            os.pathsep.join(map(str, kafka_classpath(progress=self._progress))),
        ]

    def _configure(self) -> Path:
        file = self.data_dir / "server.properties"
        settings = _settings(data=self.data_dir / "log", port=self.port, controller=free_port())
        file.write_text("".join(f"{key}={value}\n" for key, value in settings), encoding="utf-8")
        return file


def _settings(*, data: Path, port: int, controller: int) -> Sequence[tuple[str, object]]:
    mib = 1024 * 1024
    return (
        ("process.roles", "broker,controller"),
        ("node.id", 1),
        ("controller.quorum.voters", f"1@127.0.0.1:{controller}"),
        ("controller.listener.names", "CONTROLLER"),
        ("listeners", f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
        ("advertised.listeners", f"PLAINTEXT://127.0.0.1:{port}"),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("log.dirs", data),
        ("auto.create.topics.enable", "false"),
        # One node: nothing can be replicated.
        ("offsets.topic.replication.factor", 1),
        ("transaction.state.log.replication.factor", 1),
        ("transaction.state.log.min.isr", 1),
        ("share.coordinator.state.topic.replication.factor", 1),
        ("share.coordinator.state.topic.min.isr", 1),
        ("min.insync.replicas", 1),
        # After a crash the broker may register again only once its former session is over: nine seconds by default.
        ("broker.session.timeout.ms", 3000),
        ("broker.heartbeat.interval.ms", 500),
        # Internal topics in few partitions: they are created while the first consumer waits.
        ("offsets.topic.num.partitions", 4),
        ("offsets.topic.segment.bytes", 16 * mib),
        ("transaction.state.log.num.partitions", 2),
        ("share.coordinator.state.topic.num.partitions", 1),
        # Groups form at once, and tests may ask for short sessions.
        ("group.initial.rebalance.delay.ms", 0),
        ("group.min.session.timeout.ms", 1000),
        # Each topic states its own limit below this one (protos/topics).
        ("message.max.bytes", 26 * mib),
        ("replica.fetch.max.bytes", 26 * mib),
        # A producer sends its batches for all partitions of a broker in one request; six large documents pass the
        # default of 100 MiB, and would be refused for ever. What waits in memory stays bounded.
        ("socket.request.max.bytes", 176 * mib),
        ("queued.max.request.bytes", 176 * mib),
        # A small machine.
        ("num.network.threads", 2),
        ("num.io.threads", 3),
        ("background.threads", 2),
        ("log.cleaner.dedupe.buffer.size", 8 * mib),
        ("log.segment.bytes", 64 * mib),
        ("log.index.size.max.bytes", mib),
        ("num.recovery.threads.per.data.dir", 1),
        ("metadata.log.segment.bytes", 16 * mib),
    )
