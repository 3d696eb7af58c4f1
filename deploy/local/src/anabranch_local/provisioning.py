"""Topics on a broker, as their manifests in protos/topics declare them; auto-creation is off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    TopicAlreadyExistsError,
    for_code,
)
from google.protobuf.message import Message

from anabranch import topics

_ENVELOPE_BYTES = 64 * 1024  # what a dead letter carries besides the original: provenance headers and its own
_DEAD_LETTER_PARTITIONS = 1


class ProvisioningError(RuntimeError):
    """The broker refused a topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as the broker shall have it."""

    name: str
    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The broker has another number of partitions than the manifest. It is left alone: keys would change partition."""

    topic: str
    manifest: int
    broker: int

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.topic}: {self.manifest} partitions in the manifest, {self.broker} on the broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """What `provision` did, by topic name."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    differing: tuple[Difference, ...]


def specs(manifests: Iterable[topics.Topic[Message]] = topics.ALL) -> list[TopicSpec]:
    """All topics of the project: each manifest's own, and one of dead letters for each group that consumes it."""
    found = []
    for topic in manifests:
        found.append(_spec(topic.name, topic.partitions, topic.retention, topic.max_message_bytes, topic.compacted))
        limit = topic.max_message_bytes + _ENVELOPE_BYTES
        found.extend(
            _spec(topic.dead_letters(group), _DEAD_LETTER_PARTITIONS, topic.dead_letter_retention, limit, False)  # noqa: FBT003 - five columns of a table
            for group in topic.consumers
        )
    return found


def _spec(name: str, partitions: int, retention: timedelta | None, max_bytes: int, compacted: bool) -> TopicSpec:  # noqa: FBT001 - five columns of a table
    configs = {
        "cleanup.policy": "compact" if compacted else "delete",
        "retention.ms": str(-1 if retention is None else int(retention.total_seconds() * 1000)),
        "max.message.bytes": str(max_bytes),
    }
    return TopicSpec(name=name, partitions=partitions, configs=configs)


async def provision(
    bootstrap: str,
    wanted: Iterable[TopicSpec] | None = None,
    *,
    replication_factor: int = 1,
    patience: timedelta = timedelta(seconds=30),
) -> Provisioned:
    """Create what is missing and bring retention, compaction and size limits in line.

    Safe to repeat, and to run twice at once.

    Raises:
        ProvisioningError: the broker refused a topic or a setting.
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    by_name = {spec.name: spec for spec in (specs() if wanted is None else wanted)}
    milliseconds = int(patience.total_seconds() * 1000)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=milliseconds)
    await admin.start()
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await _bring_about(admin, by_name, replication_factor)
    except TimeoutError:
        raise ProvisioningError(f"the topics had no leaders after {patience}") from None
    finally:
        await admin.close()


async def _bring_about(
    admin: AIOKafkaAdminClient, by_name: Mapping[str, TopicSpec], replication_factor: int
) -> Provisioned:
    existing = set(await admin.list_topics()) & set(by_name)
    missing = [spec for name, spec in by_name.items() if name not in existing]
    created = await _create(admin, missing, replication_factor)
    existing.update(spec.name for spec in missing if spec.name not in created)
    await _await_leaders(admin, list(by_name))
    await _await_coordinator(admin)
    differing = await _compare(admin, [by_name[name] for name in sorted(existing)])
    updated = await _align(admin, [by_name[name] for name in sorted(existing)])
    return Provisioned(created=tuple(created), updated=tuple(updated), differing=tuple(differing))


async def _create(admin: AIOKafkaAdminClient, missing: list[TopicSpec], replication_factor: int) -> list[str]:
    if not missing:
        return []
    new = [NewTopic(s.name, s.partitions, replication_factor, topic_configs=dict(s.configs)) for s in missing]
    response = await admin.create_topics(new)
    created, refused = [], []
    for name, code, message in response.topic_errors:
        if code == 0:
            created.append(name)
        elif code != TopicAlreadyExistsError.errno:  # another process was faster
            refused.append(f"{name}: {message or for_code(code).__name__}")
    if refused:
        raise ProvisioningError("the broker refused " + "; ".join(refused))
    return created


async def _await_leaders(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    # The controller answers before the brokers know; a client in between would be told there is no such topic.
    while any(  # noqa: ASYNC110 - the broker tells nobody
        topic["error_code"] or any(partition["error_code"] for partition in topic["partitions"])
        for topic in await admin.describe_topics(names)
    ):
        await asyncio.sleep(0.02)


async def _await_coordinator(admin: AIOKafkaAdminClient) -> None:
    # The topic of the groups' offsets is made when the first group asks: asked for here, no service waits for it.
    while True:
        try:
            await admin.find_coordinator("provisioning")
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
            await asyncio.sleep(0.05)
        else:
            return


async def _compare(admin: AIOKafkaAdminClient, present: list[TopicSpec]) -> list[Difference]:
    if not present:
        return []
    described = await admin.describe_topics([spec.name for spec in present])
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    return [
        Difference(topic=spec.name, manifest=spec.partitions, broker=counts[spec.name])
        for spec in present
        if counts[spec.name] != spec.partitions
    ]


async def _align(admin: AIOKafkaAdminClient, present: list[TopicSpec]) -> list[str]:
    if not present:
        return []
    asked = [ConfigResource(ConfigResourceType.TOPIC, spec.name, dict(spec.configs)) for spec in present]
    actual: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(asked):
        for code, message, _, name, entries in response.resources:
            if code:
                raise ProvisioningError(f"{name}: {message or for_code(code).__name__}")
            actual[name] = {entry[0]: entry[1] for entry in entries}
    stale = [spec for spec in present if actual[spec.name] != dict(spec.configs)]
    if stale:
        changes = [ConfigResource(ConfigResourceType.TOPIC, spec.name, dict(spec.configs)) for spec in stale]
        for response in await admin.alter_configs(changes):
            for code, message, _, name in response.resources:
                if code:
                    raise ProvisioningError(f"{name}: {message or for_code(code).__name__}")
    return [spec.name for spec in stale]
