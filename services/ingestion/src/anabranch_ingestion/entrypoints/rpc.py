"""IngestionService: where a document stands, and where it came from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from anabranch.ingestion.v1 import ingestion_service_pb2 as pb
from anabranch.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceServicer
from anabranch_faults import NotFound
from anabranch_ingestion import messages
from anabranch_ingestion.application.ports import Documents, Watching
from anabranch_ingestion.domain.documents import DocumentKey

SERVICE = "anabranch.ingestion.v1.IngestionService"


class IngestionServicer(IngestionServiceServicer):
    """Reads only; anybody who can connect may ask."""

    def __init__(self, documents: Documents, watching: Watching) -> None:
        """Takes where documents are remembered."""
        self._documents = documents
        self._watching = watching

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Any) -> pb.GetDocumentResponse:  # noqa: N802, ARG002  the name and signature are gRPC's
        """Latest state and lineage."""
        key = _key(request)
        document = (await self._documents.look({key}, ())).documents.get(key)
        if document is None or document.last is None:
            raise NotFound(f"{key.document_id!r} was never seen in {key.corpus!r}", field="document_id")
        return pb.GetDocumentResponse(
            status=messages.status_to(document.last),
            title=document.title,
            provenance=messages.provenance_to(document.provenance) if document.version else None,
            metadata=document.metadata,
        )

    async def WatchDocument(  # noqa: N802  the name is gRPC's
        self,
        request: pb.WatchDocumentRequest,
        context: Any,  # noqa: ARG002  gRPC's signature
    ) -> AsyncIterator[pb.WatchDocumentResponse]:
        """The present state, then each that follows."""
        statuses = self._watching.watch(_key(request))
        try:
            async for status in statuses:
                yield pb.WatchDocumentResponse(status=messages.status_to(status))
        finally:
            await statuses.aclose()


def _key(request: pb.GetDocumentRequest | pb.WatchDocumentRequest) -> DocumentKey:
    key = DocumentKey(request.tenant, request.corpus, request.document_id)
    key.check()
    return key
