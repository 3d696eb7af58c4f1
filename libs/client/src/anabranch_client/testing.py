"""A gateway that answers from memory, for tests of programs that use the client.

    async with FakeGateway() as gateway:
        client = AsyncAnabranch(gateway.endpoint, key=gateway.key)

Documents that are put become queryable at once; a question is answered with the first document of its corpus;
`feedback` holds what was given. A text or question with one of the words in `blocked` is blocked.
`fail_with` makes the next calls fail, `hold` makes streams wait after their first event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final, Self, TypeAlias
from uuid import NAMESPACE_URL, uuid4, uuid5

import grpc

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval

__all__ = ["FakeGateway"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
TENANT: Final = "test"
_BLOCK: Final = pb.Guard(
    verdict=pb.GUARD_VERDICT_BLOCK, check="injection", reason="a blocked word", stage=guardrails.STAGE_INPUT
)


class FakeGateway(
    stubs.AnswerServiceServicer,
    stubs.SearchServiceServicer,
    stubs.DocumentServiceServicer,
    stubs.FeedbackServiceServicer,
    stubs.GuardServiceServicer,
):
    """All public services on a free loopback port. Made and used on one event loop."""

    def __init__(self) -> None:
        """Serves nothing until it is entered."""
        self.key = "ab-a-key-for-tests-only"
        self.endpoint = ""
        self.documents: dict[tuple[str, str], pb.PutDocumentRequest] = {}
        self.statuses: dict[tuple[str, str], list[ingestion.DocumentStatusChanged]] = {}
        self.answers: dict[tuple[str, str], str] = {}
        self.feedback: dict[tuple[str, str, str], list[pb.GiveFeedbackRequest]] = {}
        self.blocked: set[str] = set()
        self.requests: list[Any] = []
        self.time_remaining: list[float | None] = []
        self.cancelled = 0
        self.fail_with: list[tuple[grpc.StatusCode, str, bytes]] = []
        self.hold: asyncio.Event | None = None
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        """Serves."""
        limit = 24 * 1024 * 1024
        self._server = grpc.aio.server(options=(("grpc.max_receive_message_length", limit),))
        stubs.add_AnswerServiceServicer_to_server(self, self._server)
        stubs.add_SearchServiceServicer_to_server(self, self._server)
        stubs.add_DocumentServiceServicer_to_server(self, self._server)
        stubs.add_FeedbackServiceServicer_to_server(self, self._server)
        stubs.add_GuardServiceServicer_to_server(self, self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops at once."""
        if self._server is not None:
            await self._server.stop(timedelta().total_seconds())

    async def tell(self, corpus: str, document_id: str, state: ingestion.DocumentState.ValueType, **more: Any) -> None:
        """Adds a status to a document, and shows it to whoever watches."""
        document = ingestion.DocumentRef(tenant=TENANT, corpus=corpus, document_id=document_id, version=1)
        status = ingestion.DocumentStatusChanged(document=document, state=state, **more)
        async with self._changed:
            self.statuses.setdefault((corpus, document_id), []).append(status)
            self._changed.notify_all()

    async def Ask(self, request: pb.AskRequest, context: Context) -> pb.AskResponse:  # noqa: N802  the contract's name
        """The corpus's first document."""
        await self._begin(request, context)
        answer = pb.AskResponse(
            answer_id=self.answers.setdefault((request.corpus, request.question), f"answer-{len(self.answers) + 1}"),
            variant_id="v-test",
            search_query=request.question,
            finish_reason=generation.FINISH_REASON_STOP,
            usage=generation.Usage(prompt_tokens=5, completion_tokens=2),
        )
        answer.timings.total.FromTimedelta(timedelta(milliseconds=7))
        found = self._of(request.corpus)
        if any(word in request.question for word in self.blocked):
            answer.text, answer.finish_reason = "I cannot help with that.", generation.FINISH_REASON_BLOCKED
            answer.search_query = ""
            answer.guards.append(_BLOCK)
        elif found:
            answer.text = found[0].text
            answer.citations.append(_citation(found[0]))
        else:
            answer.abstained, answer.finish_reason = True, generation.FINISH_REASON_ABSTAINED
        return answer

    async def AskStream(  # noqa: N802  the contract's name
        self, request: pb.AskStreamRequest, context: Context
    ) -> AsyncIterator[pb.AskStreamResponse]:
        """The same, word by word."""
        answer = await self.Ask(request.ask, context)
        try:
            yield pb.AskStreamResponse(started=pb.Started(answer_id=answer.answer_id, variant_id=answer.variant_id))
            if self.hold is not None:
                await self.hold.wait()
            if answer.finish_reason == generation.FINISH_REASON_BLOCKED:
                yield pb.AskStreamResponse(guard=_BLOCK)
                yield pb.AskStreamResponse(
                    finished=pb.Finished(finish_reason=answer.finish_reason, message=answer.text)
                )
                return
            hits = [_hit(each) for each in self._of(request.ask.corpus)]
            yield pb.AskStreamResponse(retrieved=pb.Retrieved(search_query=answer.search_query, hits=hits))
            for word in answer.text.split():
                yield pb.AskStreamResponse(delta=pb.Delta(text=f"{word} "))
            yield pb.AskStreamResponse(guard=pb.Guard(verdict=pb.GUARD_VERDICT_FLAG, check="pii", reason="a name"))
            yield pb.AskStreamResponse()  # as a newer gateway's event, of a kind this client does not know
            yield pb.AskStreamResponse(
                finished=pb.Finished(
                    usage=answer.usage,
                    timings=answer.timings,
                    abstained=answer.abstained,
                    citations=answer.citations,
                    finish_reason=answer.finish_reason,
                )
            )
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def CheckText(self, request: pb.CheckTextRequest, context: Context) -> pb.CheckTextResponse:  # noqa: N802  as below
        """By the words in it."""
        await self._begin(request, context)
        word = next((word for word in self.blocked if word in request.text), None)
        if word is None:
            return pb.CheckTextResponse(verdict=guardrails.VERDICT_ALLOW, text=request.text, policy_version="gp-test")
        result = guardrails.CheckResult(check="injection", score=1.0, verdict=guardrails.VERDICT_BLOCK)
        result.status = guardrails.CHECK_STATUS_OK
        at = request.text.index(word)
        result.spans.add(start=at, end=at + len(word), kind="INJECTION", score=1.0)
        return pb.CheckTextResponse(verdict=guardrails.VERDICT_BLOCK, results=[result], policy_version="gp-test")

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:  # noqa: N802  as above
        """Every document of the corpus."""
        await self._begin(request, context)
        hits = [_hit(each) for each in self._of(request.corpus)][: request.limit]
        return pb.SearchResponse(hits=hits, variant_id="v-test", index_generation=3)

    async def ListCorpora(self, request: pb.ListCorporaRequest, context: Context) -> pb.ListCorporaResponse:  # noqa: N802  as above
        """Every corpus."""
        await self._begin(request, context)
        names = sorted({corpus for corpus, _ in self.documents})
        corpora = [retrieval.Corpus(corpus=name, document_count=len(self._of(name))) for name in names]
        for corpus in corpora:
            corpus.changed_at.FromJsonString("2026-01-02T03:04:05Z")
        return pb.ListCorporaResponse(corpora=corpora)

    async def PutDocument(self, request: pb.PutDocumentRequest, context: Context) -> pb.PutDocumentResponse:  # noqa: N802  as above
        """Queryable at once."""
        await self._begin(request, context)
        self.documents[request.corpus, request.document_id] = request
        event_id = _event_id(request.idempotency_key)
        await self.tell(
            request.corpus,
            request.document_id,
            ingestion.DOCUMENT_STATE_QUERYABLE,
            caused_by=event_id,
            chunk_count=1,
        )
        return pb.PutDocumentResponse(event_id=event_id)

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Context) -> pb.DeleteDocumentResponse:  # noqa: N802  as above
        """Gone at once."""
        await self._begin(request, context)
        self.documents.pop((request.corpus, request.document_id), None)
        event_id = _event_id(request.idempotency_key)
        await self.tell(request.corpus, request.document_id, ingestion.DOCUMENT_STATE_DELETED, caused_by=event_id)
        return pb.DeleteDocumentResponse(event_id=event_id)

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:  # noqa: N802  as above
        """The last status."""
        await self._begin(request, context)
        known = self.statuses.get((request.corpus, request.document_id))
        if not known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"document {request.document_id!r} was never seen")
            raise AssertionError  # abort has raised
        return pb.GetDocumentResponse(status=known[-1], title="A title", metadata={"team": "ops"})

    async def WatchDocument(  # noqa: N802  as above
        self, request: pb.WatchDocumentRequest, context: Context
    ) -> AsyncIterator[pb.WatchDocumentResponse]:
        """The last status, then every change."""
        await self._begin(request, context)
        key = (request.corpus, request.document_id)
        told = max(0, len(self.statuses.get(key, [])) - 1)
        try:
            while True:
                for status in self.statuses.get(key, [])[told:]:
                    told += 1
                    yield pb.WatchDocumentResponse(status=status)
                async with self._changed:
                    while len(self.statuses.get(key, [])) <= told:
                        await self._changed.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def GiveFeedback(self, request: pb.GiveFeedbackRequest, context: Context) -> pb.GiveFeedbackResponse:  # noqa: N802  as above
        """Kept in `feedback` by answer, person and kind; NOT_FOUND for an answer that this gateway never gave."""
        await self._begin(request, context)
        if request.answer_id not in self.answers.values():
            await context.abort(grpc.StatusCode.NOT_FOUND, f"answer {request.answer_id!r} was never given")
        slot = (request.answer_id, request.user_id, request.WhichOneof("kind") or "")
        given = self.feedback.setdefault(slot, [])
        given.append(request)
        return pb.GiveFeedbackResponse(feedback_id=_event_id("/".join(slot)), revision=len(given), joined=True)

    async def _begin(self, request: Any, context: Context) -> None:
        self.requests.append(request)
        self.time_remaining.append(context.time_remaining())
        if dict(context.invocation_metadata() or ()).get("authorization") != f"Bearer {self.key}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key is unknown")
        if self.fail_with:
            code, problem, details = self.fail_with.pop(0)
            await context.abort(code, problem, (("grpc-status-details-bin", details),) if details else ())

    def _of(self, corpus: str) -> list[pb.PutDocumentRequest]:
        return [document for (name, _), document in self.documents.items() if name == corpus]


def _event_id(key: str) -> str:
    return str(uuid5(NAMESPACE_URL, key)) if key else str(uuid4())


def _hit(document: pb.PutDocumentRequest) -> pb.Hit:
    return pb.Hit(
        document_id=document.document_id,
        chunk_id=f"chunk-of-{document.document_id}",
        score=1.0,
        text=document.text,
        title=document.title,
        title_path=["Part"],
        version=1,
        span=ingestion.Span(start=0, end=len(document.text)),
        metadata=document.metadata,
    )


def _citation(document: pb.PutDocumentRequest) -> generation.Citation:
    return generation.Citation(
        number=1,
        document=ingestion.DocumentRef(
            tenant=TENANT, corpus=document.corpus, document_id=document.document_id, version=1
        ),
        chunk_id=f"chunk-of-{document.document_id}",
        text=document.text,
        span=ingestion.Span(start=0, end=len(document.text)),
        answer_span=ingestion.Span(start=0, end=len(document.text)),
        support=0.9,
    )
