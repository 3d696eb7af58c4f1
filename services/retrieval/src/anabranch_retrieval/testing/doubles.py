"""Public test doubles: an index in memory, an embedder of hashed words, and makers of changes and messages."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anabranch_faults import Invalid, Unreachable
from anabranch_retrieval.application.ports import Embedded
from anabranch_retrieval.domain import (
    FEATURES,
    Chunk,
    CorpusKey,
    DocumentKey,
    Edition,
    Entry,
    Model,
    Part,
    Reranker,
    Scored,
    Search,
    fuse,
)

_NAMESPACE = uuid.UUID("8d9f2b52-0d6e-5a8f-9b5e-0c1e3a5f7a10")


def model(version: str = "hash-one", dimension: int = 64) -> Model:
    """A model of that version."""
    return Model(name="hash", digest=f"{version}-digest", dimension=dimension, quantisation="none", version=version)


def unit(text: str, of: Model) -> NDArray[np.float32]:
    """A unit vector in which texts that share words are close; another model gives other vectors."""
    vector = np.zeros(of.dimension, dtype=np.float32)
    for word in text.lower().split():
        seed = uuid.uuid5(_NAMESPACE, f"{of.version}/{word}").int % 2**32
        vector += np.random.default_rng(seed).standard_normal(of.dimension).astype(np.float32)
    norm = float(np.linalg.norm(vector))
    if norm == 0:
        vector[0] = norm = 1.0
    return vector / np.float32(norm)


def entry_of(chunk: Chunk, of: Model) -> Entry:
    """The chunk with vectors of that model."""
    rows = [np.rint(unit(chunk.text[start:end], of) * 127).astype(np.int8).tobytes() for start, end in chunk.sentences]
    return Entry(chunk=chunk, vector=unit(chunk.searchable, of), sentence_vectors=b"".join(rows))


def chunk_of(document: DocumentKey, version: int, ordinal: int, text: str, **more: object) -> Chunk:
    """A chunk with the id ingestion would give it; one sentence, all of the text."""
    corpus = document.corpus
    name = f"{corpus.tenant}\n{corpus.corpus}\n{document.document_id}\n{version}\n{ordinal}"
    values: dict[str, object] = {"metadata": {}, "sentences": ((0, len(text)),), "end": len(text), **more}
    return Chunk(
        id=str(uuid.uuid5(_NAMESPACE, name)),
        document=document,
        version=version,
        ordinal=ordinal,
        text=text,
        **values,  # type: ignore[arg-type]  # what a test names, a test types
    )


def part_of(
    document: DocumentKey,
    version: int,
    texts: Sequence[str],
    *,
    of: Model,
    part: int = 0,
    parts: int = 1,
    first: int = 0,
    event_id: str = "",
    **more: object,
) -> Part:
    """A part with these texts as chunks; `more` are fields of each chunk."""
    chunks = [chunk_of(document, version, first + number, text, **more) for number, text in enumerate(texts)]
    return Part(
        event_id=event_id or str(uuid.uuid4()),
        document=document,
        version=version,
        caused_by=f"cause-{version}",
        part=part,
        parts=parts,
        chunk_count=len(chunks) if parts == 1 else len(chunks) * parts,
        entries=tuple(entry_of(chunk, of) for chunk in chunks),
        model=of,
    )


def document_of(document_id: str, *, tenant: str = "acme", corpus: str = "docs") -> DocumentKey:
    """A document's key."""
    return DocumentKey(corpus=CorpusKey(tenant=tenant, corpus=corpus), document_id=document_id)


@dataclass(slots=True)
class HashEmbedder:
    """The Embedder port over hashed words.

    down: it is away. aliases: other names of versions. room: chunks it embeds before it goes away.
    """

    served: list[Model]
    aliases: dict[str, str] = field(default_factory=dict)
    down: bool = False
    room: int = 1_000_000
    chunks_embedded: int = 0

    async def embed_query(self, text: str, version: str) -> Embedded:
        """As the port says."""
        of = self._of(version)
        return Embedded(vector=unit(text, of), model=of)

    async def embed_chunks(self, chunks: Sequence[Chunk], version: str) -> list[Entry]:
        """As the port says."""
        of = self._of(version)
        if self.chunks_embedded >= self.room:
            raise Unreachable("cut off")
        self.chunks_embedded += len(chunks)
        return [entry_of(chunk, of) for chunk in chunks]

    async def resolve(self, version: str) -> Model:
        """As the port says."""
        return self._of(version)

    async def models(self) -> list[Model]:
        """As the port says."""
        if self.down:
            raise Unreachable("the embedding service is away")
        return list(self.served)

    def _of(self, version: str) -> Model:
        if self.down:
            raise Unreachable("the embedding service is away")
        name = self.aliases.get(version, version)
        for one in self.served:
            if one.version == name:
                return one
        raise Invalid(f"there is no embedding version {version}", field="version", reason="UNKNOWN_VERSION")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReranker:
    """A reranker that goes by one feature, the higher the better; `factor` -1 turns that round."""

    version: str
    feature: str
    factor: float = 1.0

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """As the protocol says."""
        return features[:, FEATURES.index(self.feature)].astype(np.float64) * self.factor


@dataclass(slots=True)
class HeldRerankers:
    """The Rerankers port over those it is given."""

    held: dict[str, Reranker] = field(default_factory=dict)

    async def get(self, version: str) -> Reranker | None:
        """As the port says."""
        return self.held.get(version)


@dataclass(slots=True)
class MemoryIndex:
    """The VectorIndex port in memory. down: it is away. hidden: chunk ids it took but does not find yet."""

    editions: dict[Edition, dict[str, Entry]] = field(default_factory=dict)
    aliases: dict[CorpusKey, Edition] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    down: bool = False
    puts: int = 0

    async def open(self, edition: Edition) -> None:
        """As the port says."""
        self._awake()
        self.editions.setdefault(edition, {})

    async def put(self, edition: Edition, entries: Sequence[Entry]) -> None:
        """As the port says."""
        self._awake()
        self.puts += 1
        self.editions[edition].update({entry.chunk.id: entry for entry in entries})

    async def missing(self, edition: Edition, entries: Sequence[Entry]) -> set[str]:
        """As the port says."""
        self._awake()
        held = self.editions.get(edition, {}).keys() - self.hidden
        return {entry.chunk.id for entry in entries} - held

    async def search(self, edition: Edition, search: Search) -> list[Scored]:
        """As the port says."""
        self._awake()
        held = {
            chunk_id: entry
            for chunk_id, entry in self.editions.get(edition, {}).items()
            if chunk_id not in self.hidden and _allowed(entry.chunk, search)
        }
        vector = {chunk_id: float(entry.vector @ search.vector) for chunk_id, entry in held.items()}
        keyword = _bm25(search.text, {chunk_id: entry.chunk.searchable for chunk_id, entry in held.items()})
        fused = fuse(vector if search.alpha > 0 else {}, keyword if search.alpha < 1 else {}, alpha=search.alpha)
        return fused[: search.limit]

    async def remove(self, edition: Edition, chunk_ids: Sequence[str]) -> None:
        """As the port says."""
        self._awake()
        for chunk_id in chunk_ids:
            self.editions.get(edition, {}).pop(chunk_id, None)

    async def point(self, edition: Edition) -> None:
        """As the port says."""
        self._awake()
        self.aliases[edition.corpus] = edition

    async def drop(self, edition: Edition) -> None:
        """As the port says."""
        self._awake()
        self.editions.pop(edition, None)

    async def check(self) -> None:
        """As the port says."""
        self._awake()

    def _awake(self) -> None:
        if self.down:
            raise Unreachable("the index is away")


def _allowed(chunk: Chunk, search: Search) -> bool:
    return (
        (not chunk.acl or bool(set(chunk.acl) & set(search.acl)))
        and all(chunk.metadata.get(key) == value for key, value in search.filters.items())
        and (not search.document_ids or chunk.document.document_id in search.document_ids)
    )


def _bm25(query: str, texts: Mapping[str, str]) -> dict[str, float]:
    terms = {name: Counter(text.lower().split()) for name, text in texts.items()}
    average = sum(counts.total() for counts in terms.values()) / max(len(terms), 1)
    scores: dict[str, float] = {}
    for word in set(query.lower().split()):
        holding = [name for name, counts in terms.items() if word in counts]
        weight = math.log(1 + (len(terms) - len(holding) + 0.5) / (len(holding) + 0.5))
        for name in holding:
            count, length = terms[name][word], terms[name].total()
            scores[name] = scores.get(name, 0.0) + weight * count * 1.9 / (count + 0.9 * (0.6 + 0.4 * length / average))
    return scores
