"""The topics of Anabranch. Generated from protos/topics by `make gen`; do not edit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from anabranch.embedding.v1 import events_pb2 as embedding_v1
from anabranch.gateway.v1 import events_pb2 as gateway_v1
from anabranch.ingestion.v1 import events_pb2 as ingestion_v1
from anabranch.registry.v1 import events_pb2 as registry_v1
from anabranch.retrieval.v1 import events_pb2 as retrieval_v1
from anabranch.upstream.v1 import events_pb2 as upstream_v1

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic(Generic[M]):
    """A topic as its manifest declares it. `consumers` are consumer groups inside the project."""

    name: str
    description: str
    owner: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    message: type[M]
    key: str
    partitions: int
    compacted: bool
    retention: timedelta | None
    max_message_bytes: int
    dead_letter_retention: timedelta | None

    def dead_letters(self, group: str) -> str:
        """Name of the topic where a group of consumers puts what it could not handle."""
        return f"{self.name}.{group}.dlq"


EMBEDDING_CHUNKS_EMBEDDED: Final[Topic[embedding_v1.ChunksEmbedded]] = Topic(
    name='embedding.chunks.embedded.v1',
    description='Chunks with their vectors, part for part.',
    owner='embedding',
    producers=('embedding',),
    consumers=('retrieval',),
    message=embedding_v1.ChunksEmbedded,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=3),
    max_message_bytes=8388608,
    dead_letter_retention=timedelta(days=30),
)

GATEWAY_ANSWER_SERVED: Final[Topic[gateway_v1.AnswerServed]] = Topic(
    name='gateway.answer.served.v1',
    description='One answer, with everything that led to it.',
    owner='gateway',
    producers=('gateway',),
    consumers=(),
    message=gateway_v1.AnswerServed,
    key='<tenant>/<answer_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=4194304,
    dead_letter_retention=timedelta(days=30),
)

INGESTION_DOCUMENT_CHUNKED: Final[Topic[ingestion_v1.DocumentChunked]] = Topic(
    name='ingestion.document.chunked.v1',
    description='The chunks of one document version, part by part, or its deletion.',
    owner='ingestion',
    producers=('ingestion',),
    consumers=('embedding',),
    message=ingestion_v1.DocumentChunked,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=7),
    max_message_bytes=4194304,
    dead_letter_retention=timedelta(days=30),
)

INGESTION_DOCUMENT_STATUS: Final[Topic[ingestion_v1.DocumentStatusChanged]] = Topic(
    name='ingestion.document.status.v1',
    description='What became of every change: accepted and then queryable, or rejected with a reason.',
    owner='ingestion',
    producers=('ingestion',),
    consumers=(),
    message=ingestion_v1.DocumentStatusChanged,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=30),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

REGISTRY_ROUTING_CHANGED: Final[Topic[registry_v1.RoutingChanged]] = Topic(
    name='registry.routing.changed.v1',
    description='Which variants serve which scope. Compacted: the last record of a scope holds.',
    owner='registry',
    producers=('registry',),
    consumers=('gateway',),
    message=registry_v1.RoutingChanged,
    key='<scope>',
    partitions=1,
    compacted=True,
    retention=None,
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

RETRIEVAL_DOCUMENT_INDEXED: Final[Topic[retrieval_v1.DocumentIndexed]] = Topic(
    name='retrieval.document.indexed.v1',
    description='Readers now see this version, or no longer see the document; said after reading it back.',
    owner='retrieval',
    producers=('retrieval',),
    consumers=('ingestion',),
    message=retrieval_v1.DocumentIndexed,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=7),
    max_message_bytes=1048576,
    dead_letter_retention=timedelta(days=30),
)

UPSTREAM_DOCUMENT_CHANGED: Final[Topic[upstream_v1.DocumentChanged]] = Topic(
    name='upstream.document.changed.v1',
    description='A document exists in a new form, or no longer exists. Written by systems outside.',
    owner='(outside)',
    producers=('gateway',),
    consumers=('ingestion',),
    message=upstream_v1.DocumentChanged,
    key='<tenant>/<corpus>/<document_id>',
    partitions=6,
    compacted=False,
    retention=timedelta(days=7),
    max_message_bytes=25165824,
    dead_letter_retention=timedelta(days=30),
)

ALL: Final[tuple[Topic[Message], ...]] = (
    EMBEDDING_CHUNKS_EMBEDDED,
    GATEWAY_ANSWER_SERVED,
    INGESTION_DOCUMENT_CHUNKED,
    INGESTION_DOCUMENT_STATUS,
    REGISTRY_ROUTING_CHANGED,
    RETRIEVAL_DOCUMENT_INDEXED,
    UPSTREAM_DOCUMENT_CHANGED,
)
