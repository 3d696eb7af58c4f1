"""The VectorIndex port on Weaviate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
import weaviate
from weaviate.classes.config import Configure, DataType, Property, StopwordsPreset, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter
from weaviate.classes.tenants import Tenant
from weaviate.exceptions import UnexpectedStatusCodeError

from anabranch_faults import Transient
from anabranch_retrieval.adapters import tokens
from anabranch_retrieval.adapters.analysis import Analyse
from anabranch_retrieval.adapters.weaviate import requests
from anabranch_retrieval.adapters.weaviate.connection import Weaviate, translated
from anabranch_retrieval.domain import Edition, Entry, Scored, Search

_AT_ONCE: Final = 200  # objects in one request
_LOOK_UPS: Final = 16  # vectors in one look-up
_ALREADY: Final = 422
_ABSENT: Final = ("tenant not found", "could not find class", "not found in schema", "class not found")


class WeaviateIndex:
    """A collection an embedding version, a native tenant a corpus, so an edition is one tenant of one collection.

    Searches name the collection, not the alias: a query vector must meet the collection of its own model even in the
    moment of a swap. The aliases are for people and tools: `<prefix>_of_<corpus>` stands for the collection served.

    prefix: what collections and aliases begin with; upper-case first.
    """

    def __init__(self, weaviate: Weaviate, *, analyse: Analyse, prefix: str = "Chunks") -> None:
        """Calls nothing yet."""
        self._weaviate = weaviate
        self._analyse = analyse
        self._prefix = prefix
        self._opened: set[Edition] = set()
        self._opening = asyncio.Lock()

    async def check(self) -> None:
        """As the port says."""
        client = await self._weaviate.client()
        with translated("asking for readiness"):
            if not await client.is_ready():
                raise ConnectionError

    async def open(self, edition: Edition) -> None:
        """As the port says."""
        if edition in self._opened:
            return
        async with self._opening:
            if edition in self._opened:
                return
            client = await self._weaviate.client()
            name = self._collection(edition)
            with translated(f"opening {edition}"):
                if not await client.collections.exists(name):
                    await _once(_create(client, name))
                tenants = client.collections.get(name).tenants
                if not await tenants.exists(_tenant(edition)):
                    await _once(tenants.create([Tenant(name=_tenant(edition))]))
            self._opened.add(edition)

    async def put(self, edition: Edition, entries: Sequence[Entry]) -> None:
        """As the port says."""
        place = await self._place(edition)
        for start in range(0, len(entries), _AT_ONCE):
            objects = [self._object(entry) for entry in entries[start : start + _AT_ONCE]]
            with translated(f"writing to {edition}"):
                written = await place.data.insert_many(objects)
            if written.has_errors:
                self._opened.discard(edition)  # somebody may have dropped it
                first = next(iter(written.errors.values())).message
                raise Transient(f"Weaviate refused {len(written.errors)} of {len(objects)} objects: {first[:200]}")

    async def missing(self, edition: Edition, entries: Sequence[Entry]) -> set[str]:
        """As the port says: a chunk's own vector must find it, and so must its terms."""
        lost: set[str] = set()
        for start in range(0, len(entries), _AT_ONCE):
            some = entries[start : start + _AT_ONCE]
            found = await asyncio.gather(
                self._read(edition, some),
                *(self._seen(edition, some[at : at + _LOOK_UPS]) for at in range(0, len(some), _LOOK_UPS)),
            )
            lost |= {entry.chunk.id for entry in some} - (found[0] & set().union(*found[1:]))
        return lost

    async def search(self, edition: Edition, search: Search) -> list[Scored]:
        """As the port says."""
        terms = self._analyse(search.text)
        place = {"collection": self._collection(edition), "tenant": _tenant(edition)}
        request = requests.hybrid(search, terms, **place)
        with translated(f"searching {edition}"):
            try:
                reply = await self._weaviate.search(request)
            except grpc.aio.AioRpcError as error:
                if any(words in (error.details() or "").lower() for words in _ABSENT):
                    return []
                raise
        return requests.scored(reply)

    async def remove(self, edition: Edition, chunk_ids: Sequence[str]) -> None:
        """As the port says."""
        place = await self._place(edition)
        for start in range(0, len(chunk_ids), _AT_ONCE):
            some = chunk_ids[start : start + _AT_ONCE]
            mine = Filter.by_id().contains_any(list(some))
            with translated(f"deleting from {edition}"):
                deleted = await place.data.delete_many(where=mine)
                left = await place.query.fetch_objects(filters=mine, limit=len(some), return_properties=[])
            if deleted.failed or left.objects:
                raise Transient(f"{len(left.objects)} of {len(some)} chunks deleted from {edition} are still there")

    async def point(self, edition: Edition) -> None:
        """As the port says."""
        client = await self._weaviate.client()
        alias, name = f"{self._prefix}_of_{tokens.corpus(edition.corpus)}", self._collection(edition)
        await self.open(edition)
        with translated(f"pointing at {edition}"):
            if await client.alias.exists(alias_name=alias):
                await client.alias.update(alias_name=alias, new_target_collection=name)
            else:
                await _once(client.alias.create(alias_name=alias, target_collection=name))

    async def drop(self, edition: Edition) -> None:
        """As the port says."""
        client = await self._weaviate.client()
        self._opened.discard(edition)
        with translated(f"dropping {edition}"):
            if await client.collections.exists(self._collection(edition)):
                await client.collections.get(self._collection(edition)).tenants.remove([_tenant(edition)])

    def _collection(self, edition: Edition) -> str:
        return f"{self._prefix}_{tokens.version(edition.model.version)}"

    async def _place(self, edition: Edition) -> Any:
        await self.open(edition)
        client = await self._weaviate.client()
        return client.collections.get(self._collection(edition)).with_tenant(_tenant(edition))

    def _object(self, entry: Entry) -> DataObject[Any, None]:
        chunk = entry.chunk
        return DataObject(
            uuid=chunk.id,
            properties={
                "terms": " ".join(self._analyse(chunk.searchable)),
                "document": tokens.document(chunk.document.document_id),
                "labels": tokens.labels(chunk.acl),
                "facets": tokens.facets(chunk.metadata),
            },
            vector={requests.VECTOR: entry.vector.tolist()},
        )

    async def _seen(self, edition: Edition, entries: Sequence[Entry]) -> set[str]:
        """Which of these their own vectors find; one look-up for all."""
        place = {"collection": self._collection(edition), "tenant": _tenant(edition)}
        ids = [entry.chunk.id for entry in entries]
        vectors = [entry.vector for entry in entries]
        return await self._found(requests.by_vectors(vectors, ids, limit=len(ids), **place), edition)

    async def _read(self, edition: Edition, entries: Sequence[Entry]) -> set[str]:
        """Which of these one of their own terms finds; one look-up for all."""
        place = {"collection": self._collection(edition), "tenant": _tenant(edition)}
        ids = [entry.chunk.id for entry in entries]
        terms = {self._analyse(entry.chunk.searchable)[0] for entry in entries}
        return await self._found(requests.by_terms(sorted(terms), ids, limit=len(ids), **place), edition)

    async def _found(self, request: Any, edition: Edition) -> set[str]:
        with translated(f"reading back from {edition}"):
            reply = await self._weaviate.search(request)
        return {result.metadata.id for result in reply.results}


async def _once(call: Any) -> None:
    """Await a creation; that another replica was faster is no fault."""
    try:
        await call
    except UnexpectedStatusCodeError as error:
        if error.status_code != _ALREADY or "exist" not in str(error).lower():
            raise


async def _create(client: weaviate.WeaviateAsyncClient, name: str) -> None:
    def text(prop: str, kind: DataType, *, searchable: bool) -> Property:
        tokenization = Tokenization.WHITESPACE if searchable else Tokenization.FIELD
        return Property(
            name=prop,
            data_type=kind,
            tokenization=tokenization,
            index_filterable=not searchable,
            index_searchable=searchable,
        )

    await client.collections.create(
        name,
        description="Chunks of Anabranch: what is searched. What is shown is in the retrieval service's database.",
        multi_tenancy_config=Configure.multi_tenancy(enabled=True),
        # k1 and b as for short passages; no stop words here: the terms come without them.
        inverted_index_config=Configure.inverted_index(bm25_k1=0.9, bm25_b=0.4, stopwords_preset=StopwordsPreset.NONE),
        vector_config=Configure.Vectors.self_provided(
            name=requests.VECTOR,
            quantizer=Configure.VectorIndex.Quantizer.none(),
            vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.COSINE),
        ),
        properties=[
            text("terms", DataType.TEXT, searchable=True),
            text("document", DataType.TEXT, searchable=False),
            text("labels", DataType.TEXT_ARRAY, searchable=False),
            text("facets", DataType.TEXT_ARRAY, searchable=False),
        ],
    )


def _tenant(edition: Edition) -> str:
    return tokens.corpus(edition.corpus)
