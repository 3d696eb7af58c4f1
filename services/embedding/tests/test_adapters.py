"""The port over every adapter, and the service as a process on a real broker."""

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

import numpy as np
import pytest

from anabranch import topics
from anabranch.embedding.v1.embedding_service_pb2 import EmbedTextsRequest
from anabranch.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from anabranch.ingestion.v1.events_pb2 import Chunk, DocumentChunked, DocumentRef, Span
from anabranch_bus import Event, KafkaClient
from anabranch_embedding.adapters.minilm import MiniLmEncoder
from anabranch_embedding.adapters.openai import OpenAiEncoder
from anabranch_embedding.application import Encoder
from anabranch_embedding.domain import Text
from anabranch_embedding.testing import FakeEncoder, FakeEndpoint
from anabranch_rpc import connect
from anabranch_testkit import poll_until


@pytest.fixture(params=["fake", "int8", "openai"])
async def encoder(request: pytest.FixtureRequest, int8: MiniLmEncoder) -> AsyncIterator[Encoder]:
    if request.param == "fake":
        yield FakeEncoder()
    elif request.param == "int8":
        yield int8
    else:
        async with FakeEndpoint().running() as endpoint:
            remote = OpenAiEncoder(url=endpoint.url, model="m", dimension=4, batch=2)
            yield remote
            await remote.close()


class TestEncoder:
    @pytest.mark.parametrize("urgent", [True, False])
    async def test_encodings_are_unit_vectors_one_a_text(self, encoder: Encoder, *, urgent: bool) -> None:
        found = await encoder.encode([Text(body=word) for word in ("one", "two", "three")], urgent=urgent)
        assert len(found) == 3
        for one in found:
            assert one.vector.shape == (encoder.identity.dimension,)
            assert one.vector.dtype == np.float32
            assert float(np.linalg.norm(one.vector)) == pytest.approx(1, abs=1e-5)

    async def test_sentences_have_one_row_each_or_none_at_all(self, encoder: Encoder) -> None:
        (one,) = await encoder.encode([Text(body="One. Two.", sentences=((0, 4), (5, 9)))], urgent=True)
        assert one.sentences.dtype == np.int8
        assert one.sentences.shape in ((2, encoder.identity.dimension), (0, encoder.identity.dimension))

    async def test_the_order_of_concurrent_calls_does_not_mix_their_answers(self, encoder: Encoder) -> None:
        words = ["lake", "a longer text about rivers and their deltas", "sea", "x"]
        alone = [(await encoder.encode([Text(body=word)], urgent=True))[0].vector for word in words]
        together = await asyncio.gather(*(encoder.encode([Text(body=word)], urgent=True) for word in words))
        for one, (other,) in zip(alone, together, strict=True):
            assert float(one @ other.vector) > 0.98

    async def test_the_version_is_a_name_for_a_collection(self, encoder: Encoder) -> None:
        version = encoder.identity.version
        assert version == version.lower()
        assert version.replace("-", "").replace(".", "").isalnum()


@asynccontextmanager
async def running(kafka: str, folder: Path, **settings: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """The service as a process; gives it and its addresses, once it is ready."""
    addresses = folder / "addresses.json"
    environment = {
        **os.environ,
        "ANABRANCH_EMBEDDING_KAFKA": kafka,
        "ANABRANCH_EMBEDDING_DATA": str(folder),
        "ANABRANCH_EMBEDDING_ADDRESS_FILE": str(addresses),
        **{f"ANABRANCH_EMBEDDING_{key}": value for key, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "anabranch_embedding", env=environment)
    try:
        await poll_until(addresses.exists, deadline=30, what="the service's addresses")
        found = json.loads(addresses.read_text())
        channel = connect(found["rpc"])
        stub = EmbeddingServiceStub(channel)
        await stub.EmbedTexts(EmbedTextsRequest(texts=["ready?"]), timeout=20)
        yield process, stub
        await channel.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.connected
async def test_chunks_come_back_from_kafka_with_vectors_while_queries_are_answered(kafka: str, tmp_path: Path) -> None:
    texts = [f"Paragraph {n} is about rivers. It has a second sentence." for n in range(200)]
    parts = [
        DocumentChunked(
            document=DocumentRef(tenant="t", corpus="c", document_id=f"d{n}", version=1),
            parts=1,
            chunk_count=1,
            title="Rivers",
            chunks=[
                Chunk(chunk_id=str(n), text=text, sentences=[Span(start=0, end=30), Span(start=31, end=len(text))])
            ],
        )
        for n, text in enumerate(texts)
    ]
    topic = topics.INGESTION_DOCUMENT_CHUNKED
    async with running(kafka, tmp_path) as (process, stub), KafkaClient(kafka) as client:
        async with client.follow(topics.EMBEDDING_CHUNKS_EMBEDDED) as records, asyncio.timeout(60):
            produced = asyncio.create_task(
                client.produce(
                    Event(topic=topic, message=part, key=f"t/c/{part.document.document_id}") for part in parts
                )
            )
            found: dict[str, Any] = {}
            async for record in records:
                found[record.message.document.document_id] = record.message
                if len(found) % 50 == 0:
                    answer = await stub.EmbedTexts(EmbedTextsRequest(texts=["a query"]), timeout=5)
                if len(found) == len(parts):
                    break
            assert await produced == len(parts)
        request = EmbedTextsRequest(texts=[texts[7]], prefixes=["Rivers"])
        answer = await stub.EmbedTexts(request, timeout=5)
        chunk = found["d7"].chunks[0]
        vector, asked = np.frombuffer(chunk.vector, "<f4"), np.frombuffer(answer.vectors[0], "<f4")
        assert float(vector @ asked) > 0.98
        assert len(chunk.sentence_vectors) == 2 * 384
        assert found["d7"].model == answer.model
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 25) == 0


@pytest.mark.connected
async def test_a_remote_endpoint_of_another_dimension_is_refused_at_start(kafka: str, tmp_path: Path) -> None:
    async with FakeEndpoint(dimension=4).running() as endpoint:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "anabranch_embedding",
            env={
                **os.environ,
                "ANABRANCH_EMBEDDING_KAFKA": kafka,
                "ANABRANCH_EMBEDDING_DATA": str(tmp_path),
                "ANABRANCH_EMBEDDING_MODEL": "openai",
                "ANABRANCH_EMBEDDING_OPENAI_URL": endpoint.url,
                "ANABRANCH_EMBEDDING_OPENAI_MODEL": "m",
                "ANABRANCH_EMBEDDING_OPENAI_DIMENSION": "5",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert "have 4 numbers, not 5" in output.decode()
