"""The public gRPC surface: parse, call, answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias, cast

import grpc

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as stubs
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch.ingestion.v1 import ingestion_service_pb2
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch_gateway.application.ask import AskQuestion
from anabranch_gateway.application.authenticate import Authenticate
from anabranch_gateway.application.documents import ChangeDocuments, FollowDocuments, SearchCorpus
from anabranch_gateway.application.feedback import GiveFeedback
from anabranch_gateway.application.guarding import CheckText
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.entrypoints import messages
from anabranch_rpc import Servicer, principal

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AnswerServicer(stubs.AnswerServiceServicer):
    """Asking."""

    def __init__(self, ask: AskQuestion) -> None:
        """Takes the use case."""
        self._ask = ask

    async def Ask(self, request: pb.AskRequest, context: Context) -> pb.AskResponse:  # noqa: ARG002, N802  the contract's signature
        """The whole answer."""
        return messages.answer_to(await self._ask.whole(principal(Caller), messages.question_from(request)))

    async def AskStream(  # noqa: N802  the contract's name
        self,
        request: pb.AskStreamRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> AsyncIterator[pb.AskStreamResponse]:
        """Events, as they happen."""
        question = messages.question_from(request.ask)
        async with aclosing(self._ask.stream(principal(Caller), question)) as events:
            async for event in events:
                yield messages.event_to(event)


class SearchServicer(stubs.SearchServiceServicer):
    """Searching."""

    def __init__(self, search: SearchCorpus) -> None:
        """Takes the use case."""
        self._search = search

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:  # noqa: ARG002, N802  the contract's signature
        """The best passages."""
        results = await self._search(principal(Caller), messages.query_from(request))
        return pb.SearchResponse(
            hits=messages.hits_to(results.found.passages),
            variant_id=results.variant_id,
            index_generation=results.found.index_generation,
        )

    async def ListCorpora(self, request: pb.ListCorporaRequest, context: Context) -> pb.ListCorporaResponse:  # noqa: ARG002, N802  the contract's signature
        """The tenant's corpora."""
        corpora = await self._search.corpora(principal(Caller))
        return pb.ListCorporaResponse(corpora=cast("Sequence[retrieval.Corpus]", corpora))


class DocumentServicer(stubs.DocumentServiceServicer):
    """Changing and following documents."""

    def __init__(self, change: ChangeDocuments, follow: FollowDocuments) -> None:
        """Takes the use cases."""
        self._change = change
        self._follow = follow

    async def PutDocument(self, request: pb.PutDocumentRequest, context: Context) -> pb.PutDocumentResponse:  # noqa: ARG002, N802  the contract's signature
        """Durable when answered."""
        return pb.PutDocumentResponse(event_id=await self._change.put(principal(Caller), messages.put_from(request)))

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Context) -> pb.DeleteDocumentResponse:  # noqa: ARG002, N802  the contract's signature
        """Durable when answered."""
        return pb.DeleteDocumentResponse(
            event_id=await self._change.delete(principal(Caller), messages.delete_from(request))
        )

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:  # noqa: ARG002, N802  the contract's signature
        """Latest status and lineage."""
        details = cast(
            "ingestion_service_pb2.GetDocumentResponse",
            await self._follow.get(principal(Caller), corpus=request.corpus, document_id=request.document_id),
        )
        return pb.GetDocumentResponse(
            status=details.status if details.HasField("status") else None,
            title=details.title,
            provenance=details.provenance if details.HasField("provenance") else None,
            metadata=details.metadata,
        )

    async def WatchDocument(  # noqa: N802  the contract's name
        self,
        request: pb.WatchDocumentRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> AsyncIterator[pb.WatchDocumentResponse]:
        """The present status, then every change."""
        statuses = self._follow.watch(principal(Caller), corpus=request.corpus, document_id=request.document_id)
        async with aclosing(statuses):
            async for status in statuses:
                yield pb.WatchDocumentResponse(status=cast("ingestion.DocumentStatusChanged", status))


class FeedbackServicer(stubs.FeedbackServiceServicer):
    """What people make of answers."""

    def __init__(self, give: GiveFeedback) -> None:
        """Takes the use case."""
        self._give = give

    async def GiveFeedback(self, request: pb.GiveFeedbackRequest, context: Context) -> pb.GiveFeedbackResponse:  # noqa: ARG002, N802  the contract's signature
        """Stored when answered."""
        return messages.given_to(await self._give(principal(Caller), messages.feedback_from(request)))


class GuardServicer(stubs.GuardServiceServicer):
    """Checks of texts that come without a question."""

    def __init__(self, check: CheckText) -> None:
        """Takes the use case."""
        self._check = check

    async def CheckText(self, request: pb.CheckTextRequest, context: Context) -> pb.CheckTextResponse:  # noqa: ARG002, N802  the contract's signature
        """What the policy says."""
        return messages.checked_to(await self._check(principal(Caller), messages.text_from(request)))


class Credentials:
    """From a call's metadata to its caller."""

    def __init__(self, authenticate: Authenticate) -> None:
        """Takes the use case."""
        self._authenticate = authenticate

    async def __call__(self, metadata: Mapping[str, str | bytes]) -> Caller:
        """Raises Unauthenticated."""
        value = metadata.get("authorization")
        return await self._authenticate(value if isinstance(value, str) else None)


def servicers(
    *,
    ask: AskQuestion,
    search: SearchCorpus,
    change: ChangeDocuments,
    follow: FollowDocuments,
    feedback: GiveFeedback,
    check: CheckText | None,
) -> list[Servicer]:
    """Everything this service serves; GuardService only where there are guardrails to ask."""
    guards = []
    if check is not None:
        name = "anabranch.gateway.v1.GuardService"
        guards = [Servicer(GuardServicer(check), stubs.add_GuardServiceServicer_to_server, name)]
    return [
        *guards,
        Servicer(AnswerServicer(ask), stubs.add_AnswerServiceServicer_to_server, "anabranch.gateway.v1.AnswerService"),
        Servicer(
            SearchServicer(search), stubs.add_SearchServiceServicer_to_server, "anabranch.gateway.v1.SearchService"
        ),
        Servicer(
            DocumentServicer(change, follow),
            stubs.add_DocumentServiceServicer_to_server,
            "anabranch.gateway.v1.DocumentService",
        ),
        Servicer(
            FeedbackServicer(feedback),
            stubs.add_FeedbackServiceServicer_to_server,
            "anabranch.gateway.v1.FeedbackService",
        ),
    ]
