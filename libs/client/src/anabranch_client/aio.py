"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack
from uuid import uuid4

import grpc

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch_client import messages
from anabranch_client.connection import OPTIONS, resolve
from anabranch_client.errors import TimedOut, fault_from
from anabranch_client.feedback import FeedbackAccepted, Opinion, accepted_from, feedback_request
from anabranch_client.guards import CheckedText, check_request, checked_from
from anabranch_client.results import (
    Accepted,
    Answer,
    AskEvent,
    Corpus,
    Document,
    DocumentStatus,
    GuardStage,
    SearchResult,
    Turn,
)
from anabranch_client.settling import settled
from anabranch_faults import Unreachable

Q = TypeVar("Q")
R = TypeVar("R")

AGAIN_AFTER: Final = timedelta(milliseconds=200)


class AsyncAnabranch:
    """Asks, searches and changes documents over gRPC, as one tenant: the key's.

    Every call has a deadline: its own `timeout`, or the client's. A failed call raises a fault of `anabranch_faults`
    (see `anabranch_client.errors`). One client serves any number of tasks of one event loop.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        key: str | None = None,
        key_file: str | Path | None = None,
        timeout: timedelta = timedelta(seconds=30),
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Reads what is not given from ANABRANCH_ENDPOINT, ANABRANCH_KEY and ANABRANCH_KEY_FILE. Connects later."""
        self._connection = resolve(endpoint=endpoint, key=key, key_file=key_file, credentials=credentials)
        self._timeout = timeout
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        await self.close()

    async def close(self) -> None:
        """Cancels calls that are under way and closes the connection; the next call opens a new one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def ask(
        self,
        question: str,
        *,
        corpus: str,
        history: Sequence[Turn] = (),
        session_id: str = "",
        user_id: str = "",
        filters: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        max_tokens: int = 0,
        variables: Mapping[str, Any] | None = None,
        response_schema: Mapping[str, Any] | None = None,
        fresh: bool = False,
        timeout: timedelta | None = None,  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> Answer:
        """The whole answer, with citations. Cancelling the task stops all work behind it.

        `variables` are the prompt's own. With a `response_schema` the answer is JSON that satisfies it. `fresh` wants a
        new answer, whatever the answer cache holds.
        """
        request = messages.ask_request(
            question,
            corpus=corpus,
            history=history,
            session_id=session_id,
            user_id=user_id,
            filters=filters,
            acl=acl,
            max_tokens=max_tokens,
            variables=variables,
            response_schema=response_schema,
            fresh=fresh,
        )
        return messages.answer(await self._call(stubs.AnswerServiceStub(self._open()).Ask, request, timeout))

    async def ask_stream(
        self,
        question: str,
        *,
        corpus: str,
        history: Sequence[Turn] = (),
        session_id: str = "",
        user_id: str = "",
        filters: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        max_tokens: int = 0,
        variables: Mapping[str, Any] | None = None,
        response_schema: Mapping[str, Any] | None = None,
        fresh: bool = False,
        timeout: timedelta | None = None,  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> AsyncGenerator[AskEvent, None]:
        """Started at once, Retrieved, Deltas, then Finished. Leaving the iterator (`aclosing`) stops all work."""
        request = messages.ask_request(
            question,
            corpus=corpus,
            history=history,
            session_id=session_id,
            user_id=user_id,
            filters=filters,
            acl=acl,
            max_tokens=max_tokens,
            variables=variables,
            response_schema=response_schema,
            fresh=fresh,
        )
        method = stubs.AnswerServiceStub(self._open()).AskStream
        async with contextlib.aclosing(self._stream(method, pb.AskStreamRequest(ask=request), timeout)) as answers:
            async for message in answers:
                if (event := messages.ask_event(message)) is not None:
                    yield event

    async def check_text(
        self,
        text: str = "",
        *,
        stage: GuardStage = GuardStage.INPUT,
        corpus: str = "",
        question: str = "",
        turns: Sequence[str] = (),
        passages: Sequence[str] = (),
        response_schema: Mapping[str, Any] | None = None,
        timeout: timedelta | None = None,  # noqa: ASYNC109  as in ask
    ) -> CheckedText:
        """What the tenant's policy says of a text, or at CONTEXT of each of `passages`: for apps with their own model.

        A blocked text is a result, not an error. Raises Invalid where the gateway has no guardrails.
        """
        request = check_request(
            text,
            stage=stage,
            corpus=corpus,
            question=question,
            turns=turns,
            passages=passages,
            response_schema=response_schema,
        )
        return checked_from(await self._call(stubs.GuardServiceStub(self._open()).CheckText, request, timeout))

    async def search(
        self,
        query: str,
        *,
        corpus: str,
        limit: int = 10,
        filters: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        user_id: str = "",
        timeout: timedelta | None = None,  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> SearchResult:
        """The best passages, without an answer."""
        request = pb.SearchRequest(
            corpus=corpus, query=query, limit=limit, filters=filters or {}, acl=acl, user_id=user_id
        )
        return messages.search_result(await self._call(stubs.SearchServiceStub(self._open()).Search, request, timeout))

    async def corpora(self, *, timeout: timedelta | None = None) -> tuple[Corpus, ...]:  # noqa: ASYNC109  as in ask
        """The corpora that the tenant has put documents into, by name."""
        method = stubs.SearchServiceStub(self._open()).ListCorpora
        reply = await self._call(method, pb.ListCorporaRequest(), timeout)
        return tuple(messages.corpus(each) for each in reply.corpora)

    async def feedback(
        self,
        answer_id: str,
        *,
        user_id: str,
        comment: str = "",
        given_at: datetime | None = None,
        may_train: bool = True,
        idempotency_key: str = "",
        timeout: timedelta | None = None,  # noqa: ASYNC109  as in ask
        **opinion: Unpack[Opinion],
    ) -> FeedbackAccepted:
        """Says what one person made of an answer; given again, the last one holds.

        Exactly one of `up`, `rating` (with `reasons`), `correct`, `relevant`, `irrelevant`, `prefer`, `over` and `sign`
        (see `Opinion`). `user_id` should be who asked. Without `may_train` it is counted and never learned from. Raises
        NotFound for an answer that is not the tenant's, Overloaded when this person gives too much.
        """
        request = feedback_request(
            answer_id,
            user_id=user_id,
            comment=comment,
            given_at=given_at,
            may_train=may_train,
            idempotency_key=idempotency_key or str(uuid4()),
            **opinion,
        )
        method = stubs.FeedbackServiceStub(self._open()).GiveFeedback
        return accepted_from(await self._call(method, request, timeout))

    async def put_document(
        self,
        document_id: str,
        *,
        corpus: str,
        text: str | None = None,
        content: bytes | None = None,
        uri: str | None = None,
        version: int = 0,
        title: str = "",
        content_type: str = "",
        filename: str = "",
        source_uri: str = "",
        metadata: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        changed_at: datetime | None = None,
        idempotency_key: str = "",
        timeout: timedelta | None = None,  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> Accepted:
        """Hands a document to ingestion, durably; `wait_until_queryable` tells when readers see it.

        Exactly one of `text`, `content` (a file's bytes) and `uri` is the body. A call repeated with the same
        `idempotency_key` is one change; without one each call is a change of its own.
        """
        request = messages.put_request(
            document_id,
            corpus=corpus,
            text=text,
            content=content,
            uri=uri,
            version=version,
            title=title,
            content_type=content_type,
            filename=filename,
            source_uri=source_uri,
            metadata=metadata,
            acl=acl,
            changed_at=changed_at,
            idempotency_key=idempotency_key or str(uuid4()),
        )
        reply = await self._call(stubs.DocumentServiceStub(self._open()).PutDocument, request, timeout)
        return Accepted(corpus=corpus, document_id=document_id, event_id=reply.event_id)

    async def delete_document(
        self,
        document_id: str,
        *,
        corpus: str,
        version: int = 0,
        idempotency_key: str = "",
        timeout: timedelta | None = None,  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> Accepted:
        """Asks for a document's removal, durably."""
        request = pb.DeleteDocumentRequest(
            corpus=corpus,
            document_id=document_id,
            version=version,
            idempotency_key=idempotency_key or str(uuid4()),
        )
        reply = await self._call(stubs.DocumentServiceStub(self._open()).DeleteDocument, request, timeout)
        return Accepted(corpus=corpus, document_id=document_id, event_id=reply.event_id)

    async def get_document(
        self,
        document_id: str,
        *,
        corpus: str,
        timeout: timedelta | None = None,  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> Document:
        """Latest status and lineage. Raises NotFound when the document was never seen."""
        request = pb.GetDocumentRequest(corpus=corpus, document_id=document_id)
        return messages.document(
            await self._call(stubs.DocumentServiceStub(self._open()).GetDocument, request, timeout)
        )

    async def watch_document(
        self,
        document_id: str,
        *,
        corpus: str,
        timeout: timedelta = timedelta(hours=1),  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> AsyncGenerator[DocumentStatus, None]:
        """The present status, then every change, until the caller leaves; TimedOut after `timeout`."""
        request = pb.WatchDocumentRequest(corpus=corpus, document_id=document_id)
        method = stubs.DocumentServiceStub(self._open()).WatchDocument
        async with contextlib.aclosing(self._stream(method, request, timeout)) as statuses:
            async for message in statuses:
                yield messages.document_status(message.status)

    async def wait_until_queryable(
        self,
        document_id: str,
        *,
        corpus: str,
        event_id: str = "",
        timeout: timedelta = timedelta(minutes=2),  # noqa: ASYNC109  it is sent to the gateway as the call's deadline
    ) -> DocumentStatus:
        """Waits until readers see the document, as the change `event_id` left it where one is named.

        Raises what `anabranch_client.settling.settled` raises, and TimedOut. A gateway that restarts meanwhile is
        found again.
        """
        end = time.monotonic() + timeout.total_seconds()
        while True:
            left = timedelta(seconds=end - time.monotonic())
            if left <= timedelta():
                raise TimedOut(f"document {document_id!r} was not queryable within {timeout}")
            try:
                async with contextlib.aclosing(
                    self.watch_document(document_id, corpus=corpus, timeout=left)
                ) as statuses:
                    async for status in statuses:
                        if (found := settled(status, event_id=event_id)) is not None:
                            return found
            except Unreachable:
                pass  # the stream is opened again until the time is up
            await asyncio.sleep(min(AGAIN_AFTER, left).total_seconds())

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            target, credentials = self._connection.target, self._connection.credentials
            self._channel = (
                grpc.aio.insecure_channel(target, options=OPTIONS)
                if credentials is None
                else grpc.aio.secure_channel(target, credentials, options=OPTIONS)
            )
        return self._channel

    async def _call(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, limit: timedelta | None) -> R:
        seconds = (self._timeout if limit is None else limit).total_seconds()
        try:
            return await method(request, timeout=seconds, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise fault_from(error) from error

    async def _stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, limit: timedelta | None
    ) -> AsyncGenerator[R, None]:
        seconds = (self._timeout if limit is None else limit).total_seconds()
        call = method(request, timeout=seconds, metadata=self._connection.metadata)
        try:
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise fault_from(error) from error
        finally:
            call.cancel()  # an abandoned stream would otherwise live until its deadline
