"""A real HTTP server with OpenAI's chat completions, whose model is a function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["HANG", "JudgeServer", "Raw", "graded", "material"]

HANG: Final = "hang"
"""Instead of an answer: the connection stays open, and nothing comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """An HTTP answer as it is to be sent."""

    status: int = 200
    body: bytes = b"{}"


def material(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the judge was shown."""
    shown: dict[str, Any] = json.loads(request["messages"][1]["content"])
    return shown


def graded(grade: int) -> str:
    """A reply as it was asked for."""
    return json.dumps({"reason": "because", "grade": grade})


@dataclass
class JudgeServer:
    """`says` makes the model's text of a request; `requests` and `keys` hold what came."""

    says: Callable[[dict[str, Any]], str | Raw]
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[JudgeServer]:
        """Serves on a port of its own."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        request = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append({"line": lines[0], **request})
        self.keys.append(headers.get("authorization", ""))
        said = self.says(request)
        if said == HANG:
            await reader.read()  # returns when the client gives up
        else:
            answer = said if isinstance(said, Raw) else Raw(body=_completion(said))
            head = f"HTTP/1.1 {answer.status} X\r\ncontent-length: {len(answer.body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + answer.body)
            await writer.drain()
        writer.close()


def _completion(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
