"""The client for threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
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


class Anabranch:
    """Asks, searches and changes documents over gRPC, as one tenant: the key's.

    Every call has a deadline: its own `timeout`, or the client's. A failed call raises a fault of `anabranch_faults`
    (see `anabranch_client.errors`). One client serves any number of threads. Make it after
    forking, not before.
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
        connection = resolve(endpoint=endpoint, key=key, key_file=key_file, credentials=credentials)
        self._metadata = connection.metadata
        self._timeout = timeout
        self._channel = (
            grpc.insecure_channel(connection.target, options=OPTIONS)
            if connection.credentials is None
            else grpc.secure_channel(connection.target, connection.credentials, options=OPTIONS)
        )
        self._answers = stubs.AnswerServiceStub(self._channel)
        self._searches = stubs.SearchServiceStub(self._channel)
        self._feedbacks = stubs.FeedbackServiceStub(self._channel)
        self._guards = stubs.GuardServiceStub(self._channel)
        self._documents = stubs.DocumentServiceStub(self._channel)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Cancels calls that are under way and closes the connection, for good."""
        self._channel.close()

    def ask(
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
        timeout: timedelta | None = None,
    ) -> Answer:
        """The whole answer, with citations.

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
        return messages.answer(self._call(self._answers.Ask, request, timeout))

    def ask_stream(
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
        timeout: timedelta | None = None,
    ) -> Generator[AskEvent, None, None]:
        """Started at once, Retrieved, Deltas, then Finished. Closing the iterator (`contextlib.closing`) stops all."""
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
        method = self._answers.AskStream
        with contextlib.closing(self._stream(method, pb.AskStreamRequest(ask=request), timeout)) as answers:
            for message in answers:
                if (event := messages.ask_event(message)) is not None:
                    yield event

    def check_text(
        self,
        text: str = "",
        *,
        stage: GuardStage = GuardStage.INPUT,
        corpus: str = "",
        question: str = "",
        turns: Sequence[str] = (),
        passages: Sequence[str] = (),
        response_schema: Mapping[str, Any] | None = None,
        timeout: timedelta | None = None,
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
        return checked_from(self._call(self._guards.CheckText, request, timeout))

    def search(
        self,
        query: str,
        *,
        corpus: str,
        limit: int = 10,
        filters: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        user_id: str = "",
        timeout: timedelta | None = None,
    ) -> SearchResult:
        """The best passages, without an answer."""
        request = pb.SearchRequest(
            corpus=corpus, query=query, limit=limit, filters=filters or {}, acl=acl, user_id=user_id
        )
        return messages.search_result(self._call(self._searches.Search, request, timeout))

    def corpora(self, *, timeout: timedelta | None = None) -> tuple[Corpus, ...]:
        """The corpora that the tenant has put documents into, by name."""
        method = self._searches.ListCorpora
        reply = self._call(method, pb.ListCorporaRequest(), timeout)
        return tuple(messages.corpus(each) for each in reply.corpora)

    def feedback(
        self,
        answer_id: str,
        *,
        user_id: str,
        comment: str = "",
        given_at: datetime | None = None,
        may_train: bool = True,
        idempotency_key: str = "",
        timeout: timedelta | None = None,
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
        return accepted_from(self._call(self._feedbacks.GiveFeedback, request, timeout))

    def put_document(
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
        timeout: timedelta | None = None,
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
        reply = self._call(self._documents.PutDocument, request, timeout)
        return Accepted(corpus=corpus, document_id=document_id, event_id=reply.event_id)

    def delete_document(
        self,
        document_id: str,
        *,
        corpus: str,
        version: int = 0,
        idempotency_key: str = "",
        timeout: timedelta | None = None,
    ) -> Accepted:
        """Asks for a document's removal, durably."""
        request = pb.DeleteDocumentRequest(
            corpus=corpus,
            document_id=document_id,
            version=version,
            idempotency_key=idempotency_key or str(uuid4()),
        )
        reply = self._call(self._documents.DeleteDocument, request, timeout)
        return Accepted(corpus=corpus, document_id=document_id, event_id=reply.event_id)

    def get_document(
        self,
        document_id: str,
        *,
        corpus: str,
        timeout: timedelta | None = None,
    ) -> Document:
        """Latest status and lineage. Raises NotFound when the document was never seen."""
        request = pb.GetDocumentRequest(corpus=corpus, document_id=document_id)
        return messages.document(self._call(self._documents.GetDocument, request, timeout))

    def watch_document(
        self,
        document_id: str,
        *,
        corpus: str,
        timeout: timedelta = timedelta(hours=1),
    ) -> Generator[DocumentStatus, None, None]:
        """The present status, then every change, until the caller leaves; TimedOut after `timeout`."""
        request = pb.WatchDocumentRequest(corpus=corpus, document_id=document_id)
        method = self._documents.WatchDocument
        with contextlib.closing(self._stream(method, request, timeout)) as statuses:
            for message in statuses:
                yield messages.document_status(message.status)

    def wait_until_queryable(
        self,
        document_id: str,
        *,
        corpus: str,
        event_id: str = "",
        timeout: timedelta = timedelta(minutes=2),
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
                with contextlib.closing(self.watch_document(document_id, corpus=corpus, timeout=left)) as statuses:
                    for status in statuses:
                        if (found := settled(status, event_id=event_id)) is not None:
                            return found
            except Unreachable:
                pass  # the stream is opened again until the time is up
            time.sleep(min(AGAIN_AFTER, left).total_seconds())

    def _call(self, method: grpc.UnaryUnaryMultiCallable[Q, R], request: Q, limit: timedelta | None) -> R:
        seconds = (self._timeout if limit is None else limit).total_seconds()
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise fault_from(error) from error

    def _stream(
        self, method: grpc.UnaryStreamMultiCallable[Q, R], request: Q, limit: timedelta | None
    ) -> Generator[R, None, None]:
        seconds = (self._timeout if limit is None else limit).total_seconds()
        call = method(request, timeout=seconds, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise fault_from(error) from error
        finally:
            call.cancel()  # an abandoned stream would otherwise live until its deadline
