"""The service as a process, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from anabranch import topics
from anabranch.ingestion.v1 import events_pb2 as pb
from anabranch.ingestion.v1 import ingestion_service_pb2 as api
from anabranch.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from anabranch_bus import Event
from anabranch_ingestion.testing import changed, event, state_of
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

UPSTREAM = topics.UPSTREAM_DOCUMENT_CHANGED


class Running:
    """The process, and what it published about one tenant."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address


@asynccontextmanager
async def service(kafka: str, folder: Path, **settings: str) -> AsyncIterator[Running]:
    addresses = folder / f"addresses-{uuid4()}.json"
    given = {
        "KAFKA": kafka,
        "DATA": str(folder),
        "ADDRESS_FILE": str(addresses),
        "WORKERS": "1",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "anabranch_ingestion",
        env={**os.environ, **{f"ANABRANCH_INGESTION_{name}": value for name, value in given.items()}},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await poll_until(addresses.exists, deadline=60)
        yield Running(process, json.loads(await asyncio.to_thread(addresses.read_text))["rpc"])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 40)


@asynccontextmanager
async def client(kafka: str) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=UPSTREAM.max_message_bytes)
    consumer = AIOKafkaConsumer(
        topics.INGESTION_DOCUMENT_STATUS.name,
        topics.INGESTION_DOCUMENT_CHUNKED.name,
        bootstrap_servers=kafka,
        auto_offset_reset="earliest",
    )
    await producer.start()
    await consumer.start()
    try:
        yield producer, consumer
    finally:
        await producer.stop()
        await consumer.stop()


async def send(producer: AIOKafkaProducer, *events: Event[Any]) -> None:
    for one in events:
        encoded = one.encode()
        await producer.send_and_wait(encoded.topic, encoded.value, key=encoded.key, headers=list(encoded.headers))


async def answers(consumer: AIOKafkaConsumer, tenant: str, causes: set[str]) -> dict[str, str]:
    """The first answer to each cause."""
    found: dict[str, str] = {}

    async def read() -> bool:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                if record.topic != topics.INGESTION_DOCUMENT_STATUS.name:
                    continue
                message = pb.DocumentStatusChanged.FromString(record.value)
                if message.document.tenant == tenant:
                    found.setdefault(message.caused_by, state_of(message))
        return causes <= set(found)

    await poll_until(read, deadline=60)
    return found


async def test_documents_go_in_through_kafka_and_answers_come_out_and_nothing_stops_the_service(
    kafka: str, tmp_path: Path, unique: Any
) -> None:
    tenant = unique("t")
    pdf = b"%PDF-1.4 broken"
    changes = {
        "text": changed("text", text="Plain words.", tenant=tenant),
        "html": changed("html", content=b"<html><body><h1>H</h1><p>Words.</p></body></html>", tenant=tenant),
        "broken": changed("broken", content=pdf, tenant=tenant),
        "png": changed("png", content=b"\x89PNG\r\n\x1a\n123", filename="a.pdf", tenant=tenant),
        "empty": changed("empty", content=b"  ", tenant=tenant),
        "large": changed("large", text="words " * 300_000, tenant=tenant),
    }
    ids = {name: f"{tenant}-{name}" for name in changes}
    async with client(kafka) as (producer, consumer), service(kafka, tmp_path, BODY_MIB="1") as running:
        await producer.send_and_wait(UPSTREAM.name, b"\xff\xff", key=f"{tenant}/wiki/noise".encode())
        await send(producer, *(event(change, ids[name]) for name, change in changes.items()))
        found = await answers(consumer, tenant, set(ids.values()))
        assert {name: found[ids[name]] for name in ids} == {
            "text": "ACCEPTED",
            "html": "ACCEPTED",
            "broken": "REJECTED UNPARSEABLE",
            "png": "REJECTED UNSUPPORTED_FORMAT",
            "empty": "REJECTED NO_TEXT",
            "large": "REJECTED TOO_LARGE",
        }
        assert "REJECTED MALFORMED" in found.values()
        async with grpc.aio.insecure_channel(running.address) as channel:
            request = api.GetDocumentRequest(tenant=tenant, corpus="wiki", document_id="html")
            document = await IngestionServiceStub(channel).GetDocument(request, timeout=10)
            assert document.provenance.content_type == "text/html"
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 30) == 0


async def test_a_kill_in_the_middle_loses_nothing_and_answers_nothing_twice(
    kafka: str, tmp_path: Path, unique: Any
) -> None:
    tenant = unique("t")
    events = [event(changed(f"d{n}", text=f"Text number {n}.", tenant=tenant), f"{tenant}-{n}") for n in range(200)]
    causes = {one.event_id for one in events}
    async with client(kafka) as (producer, consumer):
        async with service(kafka, tmp_path) as running:
            sending = asyncio.ensure_future(send(producer, *events))
            await answers(consumer, tenant, {f"{tenant}-3"})
            running.process.kill()
            await running.process.wait()
            await sending
        async with service(kafka, tmp_path):
            reader = AIOKafkaConsumer(
                topics.INGESTION_DOCUMENT_STATUS.name, bootstrap_servers=kafka, auto_offset_reset="earliest"
            )
            await reader.start()
            seen: dict[str, set[str]] = {}

            async def read() -> bool:
                for records in (await reader.getmany(timeout_ms=200)).values():
                    for record in records:
                        message = pb.DocumentStatusChanged.FromString(record.value)
                        if message.document.tenant == tenant:
                            headers = dict(record.headers)
                            seen.setdefault(message.caused_by, set()).add(headers["ce_id"].decode())
                return causes <= set(seen)

            await poll_until(read, deadline=90)
            await reader.stop()
            # Published again under the same id, perhaps; never a second answer.
            assert all(len(ids) == 1 for ids in seen.values())
