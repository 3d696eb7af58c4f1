"""A connection to Weaviate, and what its errors ask of the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc
import httpx
import weaviate
from weaviate.auth import Auth
from weaviate.classes.init import AdditionalConfig, Timeout
from weaviate.exceptions import (
    UnexpectedStatusCodeError,
    WeaviateBaseError,
    WeaviateClosedClientError,
    WeaviateConnectionError,
    WeaviateGRPCUnavailableError,
    WeaviateStartUpError,
    WeaviateTimeoutError,
)
from weaviate.proto.v1 import search_get_pb2, weaviate_pb2_grpc

from anabranch_faults import Overloaded, Transient, Unreachable
from anabranch_rpc import deadline

_AWAY: Final = (
    WeaviateClosedClientError,
    WeaviateConnectionError,
    WeaviateGRPCUnavailableError,
    WeaviateStartUpError,
    WeaviateTimeoutError,
    httpx.TransportError,
    ConnectionError,
    TimeoutError,
)
_AWAY_WORDS: Final = ("unavailable", "deadline", "connection", "not ready", "shutting down", "read-only", "read only")
_SERVER_ERROR: Final = 500
_MAX_MESSAGE: Final = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Weaviate listens, host:port each, and its API key where it asks for one."""

    http: str
    grpc: str
    api_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each kind of call may take."""

    connect: timedelta = timedelta(seconds=5)
    search: timedelta = timedelta(seconds=5)
    write: timedelta = timedelta(seconds=30)


class Weaviate:
    """The public client for everything but searches: those go straight to its gRPC stub.

    The client spends a third of a millisecond a search on checking arguments and on a result type that is thrown away
    here.
    """

    def __init__(self, address: Address, timeouts: Timeouts) -> None:
        """Connects to nothing yet. Raises ValueError for an address that is none."""
        self._address = address
        self._timeouts = timeouts
        self._client: weaviate.WeaviateAsyncClient | None = None
        self._channel: grpc.aio.Channel | None = None
        self._stub: weaviate_pb2_grpc.WeaviateStub | None = None
        self._metadata = (("authorization", f"Bearer {address.api_key}"),) if address.api_key else ()
        for given in (address.http, address.grpc):
            _split(given)

    async def client(self) -> weaviate.WeaviateAsyncClient:
        """The public client, connected. Raises Unreachable."""
        if self._client is not None:
            return self._client
        (http_host, http_port), (grpc_host, grpc_port) = _split(self._address.http), _split(self._address.grpc)
        timeouts = self._timeouts
        client = weaviate.use_async_with_custom(
            http_host=http_host,
            http_port=http_port,
            http_secure=False,
            grpc_host=grpc_host,
            grpc_port=grpc_port,
            grpc_secure=False,
            auth_credentials=Auth.api_key(self._address.api_key) if self._address.api_key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(
                    init=timeouts.connect.total_seconds(),
                    query=timeouts.search.total_seconds(),
                    insert=timeouts.write.total_seconds(),
                )
            ),
        )
        with translated("connecting to Weaviate"):
            try:
                await client.connect()
            except BaseException:
                await client.close()
                raise
        self._client = client
        return client

    async def search(self, request: search_get_pb2.SearchRequest) -> search_get_pb2.SearchReply:
        """One search, within what is left of the call it is made for. Raises grpc.aio.AioRpcError as it comes."""
        if self._stub is None:
            options = (("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.keepalive_time_ms", 30_000))
            self._channel = grpc.aio.insecure_channel(self._address.grpc, options=options)
            self._stub = weaviate_pb2_grpc.WeaviateStub(self._channel)  # type: ignore[no-untyped-call]  # the client's, untyped
        left = deadline()
        timeout = self._timeouts.search if left is None else min(left, self._timeouts.search)
        reply: search_get_pb2.SearchReply = await self._stub.Search(
            request, timeout=timeout.total_seconds(), metadata=self._metadata
        )
        return reply

    async def close(self) -> None:
        """Close what was opened."""
        if self._client is not None:
            await self._client.close()
        if self._channel is not None:
            await self._channel.close()


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns outages into Unreachable, overload into Overloaded, a server's own error into Transient.

    Anything else passes: it is a bug here.
    """
    try:
        yield
    except _AWAY as error:
        raise Unreachable(f"{doing}: Weaviate is away ({type(error).__name__})") from error
    except grpc.aio.AioRpcError as error:
        raise _of_status(doing, error.code(), error.details() or "") from error
    except UnexpectedStatusCodeError as error:
        if error.status_code >= _SERVER_ERROR:
            raise Unreachable(f"{doing}: Weaviate answered {error.status_code}") from error
        raise
    except WeaviateBaseError as error:
        text = str(error)
        if any(word in text.lower() for word in _AWAY_WORDS):
            raise Unreachable(f"{doing}: Weaviate is away ({type(error).__name__})") from error
        raise Transient(f"{doing}: {text[:300]}") from error


def _of_status(doing: str, code: grpc.StatusCode, details: str) -> Transient:
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}:
        return Unreachable(f"{doing}: Weaviate is away ({code.name})")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(f"{doing}: Weaviate is full")
    return Transient(f"{doing}: {code.name}: {details[:300]}")


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
