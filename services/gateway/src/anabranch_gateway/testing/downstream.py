"""Stand-ins for the services behind the gateway, on a real gRPC server that insists on deadlines as they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, Self, TypeAlias

import grpc

from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_grpc
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.generation.v1 import generation_service_pb2_grpc as generation_grpc
from anabranch.guardrails.v1 import guardrails_service_pb2_grpc as guardrails_grpc
from anabranch.ingestion.v1 import events_pb2 as ingestion_events
from anabranch.ingestion.v1 import ingestion_service_pb2 as ingestion
from anabranch.ingestion.v1 import ingestion_service_pb2_grpc as ingestion_grpc
from anabranch.registry.v1 import events_pb2 as registry
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as retrieval_grpc
from anabranch_faults import NotFound
from anabranch_gateway.domain.feedback import TooOften
from anabranch_gateway.testing.calls import Calls
from anabranch_gateway.testing.feedback import FakeFeedback
from anabranch_gateway.testing.guardrails import FakeGuardrails
from anabranch_rpc import Server, Servicer

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def passage(document_id: str, text: str, *, tenant: str = "default", corpus: str = "handbook") -> retrieval.Passage:
    """A passage as retrieval gives it."""
    return retrieval.Passage(
        document=ingestion_events.DocumentRef(tenant=tenant, corpus=corpus, document_id=document_id, version=1),
        chunk_id=f"chunk-of-{document_id}",
        text=text,
        span=ingestion_events.Span(start=0, end=len(text)),
        title=f"About {document_id}",
        title_path=["Part"],
        page=1,
        line=2,
        source_uri=f"https://docs.example/{document_id}",
        metadata={"team": "ops"},
        score=1.0,
        sentences=[
            retrieval.Sentence(span=ingestion_events.Span(start=0, end=len(text)), similarity=0.5, has_similarity=True)
        ],
    )


def citation(found: retrieval.Passage, *, number: int = 1) -> generation.Citation:
    """A citation of a whole passage."""
    return generation.Citation(
        number=number,
        document=found.document,
        chunk_id=found.chunk_id,
        text=found.text,
        span=found.span,
        answer_span=ingestion_events.Span(start=0, end=len(found.text)),
        title=found.title,
        source_uri=found.source_uri,
        page=found.page,
        support=0.9,
    )


def route(*weights: tuple[str, int], scope: str = "*", revision: int = 1) -> registry.RoutingChanged:
    """A route of variants with usual settings."""
    return registry.RoutingChanged(
        scope=scope,
        revision=revision,
        shares=[
            registry.Share(
                variant=registry.Variant(
                    variant_id=variant_id,
                    retrieval=retrieval.RetrievalSettings(alpha=0.5, top_k=5),
                    generation=generation.GenerationSettings(backend="extractive", max_tokens=200, max_sentences=2),
                ),
                weight=weight,
            )
            for variant_id, weight in weights
        ],
    )


class FakeRetrieval(retrieval_grpc.RetrievalServiceServicer):
    """Finds everything that was put into a corpus. `hold` makes it wait, `fault` makes it fail."""

    def __init__(self) -> None:
        """Starts anew."""
        self.renew()

    def renew(self) -> None:
        """Has no corpus but the tenant `default`'s `handbook`, of two passages, and has seen no call."""
        self.corpora: dict[tuple[str, str], list[retrieval.Passage]] = {
            ("default", "handbook"): [
                passage("a", "The meeting is in the blue room."),
                passage("b", "Lunch is at noon."),
            ]
        }
        self.retrieve = Calls()
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None

    async def Retrieve(self, request: retrieval.RetrieveRequest, context: Context) -> retrieval.RetrieveResponse:  # noqa: ARG002, N802  the contract's name and signature
        """Passages of the corpus, as many as the settings want."""
        self.retrieve.note(request)
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.retrieve.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        found = self.corpora.get((request.tenant, request.corpus))
        if found is None:
            raise NotFound(f"there is no corpus {request.corpus!r}", field="corpus")
        reply = retrieval.RetrieveResponse(
            passages=found[: request.settings.top_k],
            index_generation=7,
            embedding_version="e-1",
            query_vector=bytes([127, 0, 0, 0]) if request.with_query_vector else b"",
            reranker_version=request.settings.reranker_version,
        )
        for rank, each in enumerate(reply.passages, start=1):
            each.rank = rank
            if request.with_features:
                each.features.extend([each.score, 1 / rank])
        if request.with_features:
            reply.feature_set = "rf-1"
            reply.feature_names.extend(["dense", "reciprocal_rank"])
        reply.embed_time.FromMilliseconds(2)
        reply.search_time.FromMilliseconds(3)
        return reply

    async def ListCorpora(  # noqa: N802  the contract's name
        self,
        request: retrieval.ListCorporaRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> retrieval.ListCorporaResponse:
        """The tenant's corpora."""
        mine = sorted(corpus for tenant, corpus in self.corpora if tenant == request.tenant)
        return retrieval.ListCorporaResponse(
            corpora=[retrieval.Corpus(corpus=each, document_count=1, index_generation=7) for each in mine]
        )

    async def StartReindex(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def GetReindex(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def RollbackReindex(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError


class FakeGeneration(generation_grpc.GenerationServiceServicer):
    """Says `deltas`, citing the first passage; `hold` makes it wait after the first delta, `fault` makes it fail."""

    def __init__(self) -> None:
        """Starts anew."""
        self.renew()

    def renew(self) -> None:
        """Says a sentence, and has seen no call."""
        self.deltas: Sequence[str] = ("In the ", "blue ", "room.")
        self.generate = Calls()
        self.condense = Calls()
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None
        # In the place of a citation of all of the first passage.
        self.citations: Sequence[generation.Citation] | None = None
        # Of models, in the place of none.
        self.calls: Sequence[generation.ModelCall] = ()

    async def Generate(  # noqa: N802  the contract's name
        self,
        request: generation.GenerateRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> AsyncIterator[generation.GenerateResponse]:
        """Deltas, a citation, the end."""
        self.generate.note(request)
        try:
            for number, delta in enumerate(self.deltas):
                if number and self.hold is not None:
                    await self.hold.wait()
                yield generation.GenerateResponse(delta=delta)
        except (asyncio.CancelledError, GeneratorExit):
            self.generate.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        cited = [citation(each) for each in request.passages[:1]] if self.citations is None else self.citations
        for each in cited:
            yield generation.GenerateResponse(citation=each)
        yield generation.GenerateResponse(
            generated=generation.Generated(
                reason=generation.FINISH_REASON_STOP if request.passages else generation.FINISH_REASON_ABSTAINED,
                usage=generation.Usage(prompt_tokens=12, completion_tokens=3),
                abstained=not request.passages,
                backend="extractive",
                model="rules",
                calls=self.calls,
            )
        )

    async def Condense(self, request: generation.CondenseRequest, context: Context) -> generation.CondenseResponse:  # noqa: ARG002, N802  the contract's name and signature
        """The question with what it is about."""
        self.condense.note(request)
        about = request.history[0].text if request.history else ""
        return generation.CondenseResponse(question=f"{request.question} ({about})", changed=True)

    async def ListBackends(  # noqa: N802  the contract's name
        self,
        request: generation.ListBackendsRequest,  # noqa: ARG002  the contract's signature
        context: Context,  # noqa: ARG002  as above
    ) -> generation.ListBackendsResponse:
        """Rules, and a model."""
        return generation.ListBackendsResponse(
            backends=[
                generation.Backend(name="extractive", models=["rules"]),
                generation.Backend(name="openai", models=["house-7b"]),
            ]
        )


class FakeIngestion(ingestion_grpc.IngestionServiceServicer):
    """Tells the statuses it was given, and then waits for more."""

    def __init__(self) -> None:
        """Starts anew."""
        self.renew()

    def renew(self) -> None:
        """Knows no document, and has seen no call."""
        self.statuses: dict[tuple[str, str, str], list[ingestion_events.DocumentStatusChanged]] = {}
        self.changed = asyncio.Condition()
        self.watch = Calls()

    async def tell(self, tenant: str, corpus: str, document_id: str, **status: Any) -> None:
        """Adds a status to a document."""
        document = ingestion_events.DocumentRef(tenant=tenant, corpus=corpus, document_id=document_id, version=1)
        async with self.changed:
            self.statuses.setdefault((tenant, corpus, document_id), []).append(
                ingestion_events.DocumentStatusChanged(document=document, **status)
            )
            self.changed.notify_all()

    async def GetDocument(  # noqa: N802  the contract's name
        self,
        request: ingestion.GetDocumentRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> ingestion.GetDocumentResponse:
        """The last status."""
        known = self.statuses.get((request.tenant, request.corpus, request.document_id))
        if not known:
            raise NotFound(f"document {request.document_id!r} was never seen", field="document_id")
        return ingestion.GetDocumentResponse(
            status=known[-1],
            title="A title",
            provenance=ingestion_events.Provenance(source_uri="https://docs.example/a", parser="text/1"),
            metadata={"team": "ops"},
        )

    async def WatchDocument(  # noqa: N802  the contract's name
        self,
        request: ingestion.WatchDocumentRequest,
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> AsyncIterator[ingestion.WatchDocumentResponse]:
        """Every status."""
        self.watch.note(request)
        told = 0
        key = (request.tenant, request.corpus, request.document_id)
        try:
            while True:
                for status in self.statuses.get(key, [])[told:]:
                    told += 1
                    yield ingestion.WatchDocumentResponse(status=status)
                async with self.changed:
                    while len(self.statuses.get(key, [])) == told:
                        await self.changed.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.watch.cancelled += 1
            raise


class Downstream:
    """The services behind it on one port."""

    def __init__(self) -> None:
        """Makes them; `async with` serves them."""
        self.retrieval = FakeRetrieval()
        self.generation = FakeGeneration()
        self.ingestion = FakeIngestion()
        self.feedback = FakeFeedback()
        self.guardrails = FakeGuardrails()
        self._server: Server | None = None

    def renew(self) -> None:
        """Everything as at the beginning."""
        self.retrieval.renew()
        self.generation.renew()
        self.ingestion.renew()
        self.feedback.renew()
        self.guardrails.renew()

    @property
    def address(self) -> str:
        """`host:port`, while it serves."""
        return self._server.address if self._server else ""

    async def __aenter__(self) -> Self:
        """Serves."""
        self._server = Server(
            [
                Servicer(
                    self.retrieval,
                    retrieval_grpc.add_RetrievalServiceServicer_to_server,
                    "anabranch.retrieval.v1.RetrievalService",
                ),
                Servicer(
                    self.generation,
                    generation_grpc.add_GenerationServiceServicer_to_server,
                    "anabranch.generation.v1.GenerationService",
                ),
                Servicer(
                    self.ingestion,
                    ingestion_grpc.add_IngestionServiceServicer_to_server,
                    "anabranch.ingestion.v1.IngestionService",
                ),
                Servicer(
                    self.feedback,
                    feedback_grpc.add_FeedbackServiceServicer_to_server,
                    "anabranch.feedback.v1.FeedbackService",
                ),
                Servicer(
                    self.guardrails,
                    guardrails_grpc.add_GuardrailsServiceServicer_to_server,
                    "anabranch.guardrails.v1.GuardrailsService",
                ),
            ],
            errors={TooOften: grpc.StatusCode.RESOURCE_EXHAUSTED},
        )
        await self._server.start()
        await self._server.set_serving(serving=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops at once."""
        if self._server is not None:
            await self._server.stop(timedelta())
