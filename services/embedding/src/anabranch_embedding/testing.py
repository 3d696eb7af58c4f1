"""Public test doubles: what stands for a model, and a small embeddings endpoint to talk to."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from anabranch_embedding.domain import Encoding, Float32, ModelIdentity, Text, quantise, unit

__all__ = ["Answer", "FakeEncoder", "FakeEndpoint", "fake_vector"]


def fake_vector(text: str, dimension: int) -> Float32:
    """Return a unit vector that only this text has."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector: Float32 = unit(np.random.default_rng(seed).standard_normal((1, dimension)).astype(np.float32))[0]
    return vector


@dataclass
class FakeEncoder:
    """An encoder whose vectors are `fake_vector(text.whole)`, for sentences those of the sentence alone.

    `calls` holds what it was asked; `fault`, when set, is raised instead of an answer.
    """

    dimension: int = 4
    name: str = "fake"
    fault: Exception | None = None
    calls: list[tuple[list[Text], bool]] = field(default_factory=list)

    @property
    def identity(self) -> ModelIdentity:
        """As in the port."""
        return ModelIdentity(name=self.name, digest="0123456789abcdef", dimension=self.dimension, quantisation="fp32")

    async def encode(self, texts: Sequence[Text], *, urgent: bool) -> list[Encoding]:
        """As in the port."""
        self.calls.append((list(texts), urgent))
        if self.fault is not None:
            raise self.fault
        return [self._encoding(text) for text in texts]

    def _encoding(self, text: Text) -> Encoding:
        rows = [fake_vector(text.body[start:end], self.dimension) for start, end in text.sentences]
        sentences = quantise(np.array(rows, np.float32).reshape(len(rows), self.dimension))
        return Encoding(
            vector=fake_vector(text.whole, self.dimension), sentences=sentences, tokens=len(text.whole.split())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the endpoint answers instead of vectors."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    hang: bool = False


@dataclass
class FakeEndpoint:
    """A real HTTP server with OpenAI's embeddings call; vectors are `fake_vector`, not of norm 1, in reverse order.

    `answer`, when set, decides from the texts whether to answer something else; `requests` holds what came.
    """

    dimension: int = 4
    answer: Callable[[list[str]], Answer | None] | None = None
    requests: list[tuple[dict[str, str], dict[str, object]]] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeEndpoint]:
        """Serve on a free loopback port, which `url` names."""
        open_: set[asyncio.StreamWriter] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_.add(writer)
            await self._connection(reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        try:
            yield self
        finally:
            server.close()
            for writer in open_:
                writer.transport.abort()
            await server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
                self.requests.append(({"request": request, **headers}, body))
                answer = self._decide(body["input"])
                if answer.hang:
                    await reader.read()
                lines = [f"HTTP/1.1 {answer.status} Said", f"content-length: {len(answer.body)}"]
                lines += [f"{name}: {value}" for name, value in answer.headers]
                writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _decide(self, texts: list[str]) -> Answer:
        if self.answer is not None and (answer := self.answer(texts)) is not None:
            return answer
        rows = [
            {"object": "embedding", "index": index, "embedding": (fake_vector(text, self.dimension) * 3).tolist()}
            for index, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Answer(body=json.dumps({"object": "list", "data": rows[::-1], "usage": usage}).encode())
