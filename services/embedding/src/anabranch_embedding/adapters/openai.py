"""The encoder port over an OpenAI-compatible embeddings endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final

import httpx
import numpy as np

from anabranch_embedding.domain import Encoding, Float32, Int8, ModelIdentity, Text, unit
from anabranch_faults import Fault, Invalid, Overloaded, Transient, Unreachable
from anabranch_observability import counter, get_logger, histogram
from anabranch_observability.names import embedding as names

__all__ = ["OpenAiEncoder"]

log = get_logger()

_MAX_RETRY_AFTER: Final = timedelta(minutes=1)
_QUOTED: Final = 300
# What only the operator can put right: documents wait for that, none is refused because of it.
_MISCONFIGURED: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
)
_AWAY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


class OpenAiEncoder:
    """Vectors from `POST <url>/embeddings`. Gives no sentence vectors.

    Nothing is repeated here: faults say whether and when to, and Kafka's handlers and gRPC's clients act on them.
    `urgent` changes nothing: the order is the server's affair; but urgent texts do not wait for a free request slot.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        dimension: int,
        key: str | None = None,
        timeout: timedelta = timedelta(seconds=10),
        batch: int = 32,
        concurrency: int = 4,
    ) -> None:
        """Connects to nothing yet."""
        self._identity = ModelIdentity.of_remote(name=model, dimension=dimension)
        self._model = model
        self._batch = batch
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._url = f"{url.rstrip('/')}/embeddings"
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=timeout.total_seconds(),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=concurrency),
            trust_env=False,
        )

    @property
    def identity(self) -> ModelIdentity:
        """As in the port; from what the operator said, which every answer is checked against."""
        return self._identity

    async def check(self) -> None:
        """Embed a word, at start. Raises Invalid when the vectors have another dimension than was said.

        An endpoint that is away is only logged: it may come later than this service, and every call checks again.
        """
        try:
            await self._request(["check"])
        except _WrongDimension as fault:
            raise Invalid(fault.problem, field="ANABRANCH_EMBEDDING_OPENAI_DIMENSION") from fault
        except Fault as fault:
            log.warning(names.Log.REMOTE_CHECK_FAILED, url=self._url, reason=str(fault))

    async def encode(self, texts: Sequence[Text], *, urgent: bool) -> list[Encoding]:
        """As in the port."""
        started = perf_counter()
        batches = [texts[start : start + self._batch] for start in range(0, len(texts), self._batch)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(batch, urgent=urgent)) for batch in batches]
        encodings: list[Encoding] = []
        for task in tasks:
            outcome = task.result()
            if isinstance(outcome, Fault):
                raise outcome
            encodings += outcome
        lane = "express" if urgent else "turns"
        counter(names.TEXTS).labels(lane=lane, version=self._identity.version).inc(len(texts))
        counter(names.TOKENS).labels(lane=lane, version=self._identity.version).inc(
            sum(encoding.tokens for encoding in encodings)
        )
        histogram(names.ENCODE_SECONDS).labels(lane=lane).observe(perf_counter() - started)
        return encodings

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _outcome(self, texts: Sequence[Text], *, urgent: bool) -> list[Encoding] | Fault:
        """The fault as a value: raised inside a task group it would come out as a group of faults."""
        try:
            if urgent:
                return await self._request([text.whole for text in texts])
            async with self._slots:
                return await self._request([text.whole for text in texts])
        except Fault as fault:
            return fault

    async def _request(self, texts: Sequence[str]) -> list[Encoding]:
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                response = await self._client.post(self._url, json=body)
        except (httpx.TimeoutException, TimeoutError) as error:
            counter(names.REMOTE_REQUESTS).labels(outcome="timeout").inc()
            seconds = self._timeout.total_seconds()
            raise Transient(f"the embeddings endpoint did not answer within {seconds:g} s") from error
        except httpx.HTTPError as error:
            counter(names.REMOTE_REQUESTS).labels(outcome="unreachable").inc()
            raise Unreachable(f"the embeddings endpoint cannot be reached: {type(error).__name__}") from error
        counter(names.REMOTE_REQUESTS).labels(outcome=str(response.status_code)).inc()
        if response.status_code != HTTPStatus.OK:
            raise _fault(response)
        # Parsing hundreds of vectors takes milliseconds.
        return await asyncio.to_thread(_encodings, response, len(texts), self._identity.dimension)


class _WrongDimension(Unreachable):
    """The endpoint serves another model than the operator said: nothing can be embedded until that is put right."""


def _fault(response: httpx.Response) -> Fault:
    status = response.status_code
    said = f"the embeddings endpoint answered {status}: {response.text[:_QUOTED]!r}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Overloaded(said, retry_after=_retry_after(response))
    if status in _AWAY:
        return Unreachable(said, retry_after=_retry_after(response))
    if status in _MISCONFIGURED:
        return Unreachable(f"{said}; look at ANABRANCH_EMBEDDING_OPENAI_URL, _MODEL and _KEY")
    # 500 may be one text's doing: it is tried again a bounded number of times.
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Transient(said, retry_after=_retry_after(response))
    return Invalid(said, reason="REFUSED_BY_ENDPOINT")


def _retry_after(response: httpx.Response) -> timedelta | None:
    value = response.headers.get("retry-after", "")
    if not value.isdigit():
        return None
    return min(timedelta(seconds=int(value)), _MAX_RETRY_AFTER)


def _encodings(response: httpx.Response, count: int, dimension: int) -> list[Encoding]:
    """The vectors in the order of the texts. Raises Unreachable when the answer is not what the API promises."""
    try:
        body: Any = response.json()
        rows = [row["embedding"] for row in sorted(body["data"], key=lambda row: int(row["index"]))]
        vectors: Float32 = np.array(rows, np.float32).reshape(len(rows), -1)
        tokens = int((body.get("usage") or {}).get("total_tokens", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(f"the embeddings endpoint's answer cannot be read: {type(error).__name__}") from error
    if len(vectors) != count:
        raise Unreachable(f"the embeddings endpoint gave {len(vectors)} vectors for {count} texts")
    if vectors.shape[1] != dimension:
        raise _WrongDimension(f"the embeddings endpoint's vectors have {vectors.shape[1]} numbers, not {dimension}")
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise Unreachable("the embeddings endpoint gave a vector of zeros, or with numbers that are none")
    none: Int8 = np.zeros((0, dimension), np.int8)
    # The endpoint counts tokens of the whole request; they are put on its first text.
    return [
        Encoding(vector=vector, sentences=none, tokens=0 if index else tokens)
        for index, vector in enumerate(unit(vectors))
    ]
