"""Where documents stand, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc

from anabranch.ingestion.v1 import ingestion_service_pb2 as pb
from anabranch.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from anabranch_gateway.adapters.faults import meaning
from anabranch_gateway.application.ports import DocumentDetails, DocumentStatus


class GrpcDocuments:
    """IngestionService as the Documents port. Answers are the contract's own messages."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Takes a channel of `anabranch_rpc.connect`, which passes deadline and cancellation on."""
        self._stub = IngestionServiceStub(channel)

    async def get(self, *, tenant: str, corpus: str, document_id: str) -> DocumentDetails:
        """See the port."""
        request = pb.GetDocumentRequest(tenant=tenant, corpus=corpus, document_id=document_id)
        try:
            return DocumentDetails(await self._stub.GetDocument(request))
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error

    async def watch(self, *, tenant: str, corpus: str, document_id: str) -> AsyncGenerator[DocumentStatus, None]:
        """See the port."""
        request = pb.WatchDocumentRequest(tenant=tenant, corpus=corpus, document_id=document_id)
        call = self._stub.WatchDocument(request)
        try:
            async for response in call:
                yield DocumentStatus(response.status)
        except grpc.aio.AioRpcError as error:
            raise meaning(error) from error
        finally:
            call.cancel()  # an abandoned stream is never collected
