"""Names of things, and what is indexed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from anabranch_faults import Invalid

MAX_VERSION = 2**63 - 1  # what every database and both indexes keep exactly
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CORPUS = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MAX_DOCUMENT_ID = 512
_UNIT = 1e-2  # how far from 1 the norm of a vector may be


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CorpusKey:
    """One corpus of one tenant: nothing is ever read across two of these."""

    tenant: str
    corpus: str

    def __post_init__(self) -> None:
        """Refuses names outside the alphabet."""
        if not _TENANT.fullmatch(self.tenant):
            raise Invalid("must be 1 to 64 of A-Z a-z 0-9 . _ -", field="tenant", reason="INVALID_TENANT")
        if not _CORPUS.fullmatch(self.corpus):
            raise Invalid("must be 1 to 128 of A-Z a-z 0-9 . _ -", field="corpus", reason="INVALID_CORPUS")

    def __str__(self) -> str:
        """`tenant/corpus`."""
        return f"{self.tenant}/{self.corpus}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class DocumentKey:
    """One document of a corpus, whatever its version."""

    corpus: CorpusKey
    document_id: str

    def __post_init__(self) -> None:
        """Refuses an empty or over-long name."""
        if not 1 <= len(self.document_id) <= _MAX_DOCUMENT_ID:
            problem = f"must be 1 to {_MAX_DOCUMENT_ID} characters"
            raise Invalid(problem, field="document.document_id", reason="INVALID_DOCUMENT_ID")

    def __str__(self) -> str:
        """`tenant/corpus/document_id`, which is also the record key."""
        return f"{self.corpus}/{self.document_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What made a vector. Vectors may be compared only when all fields are equal; `version` names the index."""

    name: str
    digest: str
    dimension: int
    quantisation: str
    version: str

    def __post_init__(self) -> None:
        """Refuses a model that names nothing."""
        if not self.version:
            raise Invalid("the model has no version", field="model.version", reason="INVALID_MODEL")
        if self.dimension < 1:
            raise Invalid("the model has no dimension", field="model.dimension", reason="INVALID_MODEL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """A corpus as indexed under one model; a corpus may have several at a time, one of which is read."""

    corpus: CorpusKey
    model: Model

    def __str__(self) -> str:
        """`tenant/corpus@version`."""
        return f"{self.corpus}@{self.model.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of one document version, with all a reader is shown about it.

    start, end: offsets of `text` in the document's extracted text; sentences: offsets into `text`.
    """

    id: str
    document: DocumentKey
    version: int
    ordinal: int
    text: str
    start: int = 0
    end: int = 0
    title: str = ""
    title_path: tuple[str, ...] = ()
    kind: int = 0
    page: int = 0
    line: int = 0
    token_count: int = 0
    sentences: tuple[tuple[int, int], ...] = ()
    source_uri: str = ""
    metadata: Mapping[str, str]
    acl: tuple[str, ...] = ()
    changed_at: datetime | None = None  # of the source, where it said so

    def __post_init__(self) -> None:
        """Refuses what cannot be stored or found again."""
        try:
            uuid.UUID(self.id)
        except ValueError:
            raise Invalid("must be a UUID", field="chunk_id", reason="INVALID_CHUNK") from None
        if not self.text.strip():
            raise Invalid(f"chunk {self.id}: text is empty", field="text", reason="INVALID_CHUNK")

    @property
    def prefix(self) -> str:
        """What stands above the text when it is embedded and indexed: title, then headings; may be empty."""
        return "\n".join(filter(None, (self.title, " > ".join(self.title_path))))

    @property
    def searchable(self) -> str:
        """The text that is embedded and indexed by keyword."""
        return "\n".join(filter(None, (self.prefix, self.text)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A chunk with its vectors under one model, ready for the index.

    vector: float32, norm 1. sentence_vectors: a row of `dimension` int8 per sentence of the chunk, the unit vector
    times 127; empty when there are none.
    """

    chunk: Chunk
    vector: NDArray[np.float32]
    sentence_vectors: bytes = b""

    def fits(self, model: Model) -> None:
        """Raises Invalid when the vectors cannot be `model`'s."""
        if self.vector.shape != (model.dimension,):
            problem = f"chunk {self.chunk.id}: {self.vector.size} dimensions instead of {model.dimension}"
            raise Invalid(problem, field="vector", reason="INVALID_VECTOR")
        norm = float(np.linalg.norm(self.vector))
        if not abs(norm - 1) < _UNIT:  # also false for NaN
            raise Invalid(
                f"chunk {self.chunk.id}: norm {norm:.3f} instead of 1", field="vector", reason="INVALID_VECTOR"
            )
        expected = len(self.chunk.sentences) * model.dimension
        if self.sentence_vectors and len(self.sentence_vectors) != expected:
            problem = f"chunk {self.chunk.id}: {len(self.sentence_vectors)} bytes instead of {expected}"
            raise Invalid(problem, field="sentence_vectors", reason="INVALID_VECTOR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a record says about one version of one document."""

    event_id: str
    document: DocumentKey
    version: int
    caused_by: str

    def __post_init__(self) -> None:
        """Refuses versions that are not numbers of a version."""
        if not 1 <= self.version <= MAX_VERSION:
            problem = f"must be 1 to {MAX_VERSION}"
            raise Invalid(problem, field="document.version", reason="INVALID_VERSION")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion(Change):
    """The document is gone as of this version."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part(Change):
    """One part of a version's chunks. Readers see the version once all `parts` are in."""

    part: int
    parts: int
    chunk_count: int
    entries: tuple[Entry, ...]
    model: Model

    def __post_init__(self) -> None:
        """Refuses parts that could never add up to a version."""
        super(Part, self).__post_init__()
        if not 0 <= self.part < self.parts:
            raise Invalid(f"part {self.part} of {self.parts}", field="part", reason="INVALID_PART")
        if not self.entries:
            raise Invalid("a part without chunks", field="chunks", reason="INVALID_PART")
        if self.parts == 1 and self.chunk_count != len(self.entries):
            problem = f"{len(self.entries)} chunks instead of {self.chunk_count}"
            raise Invalid(problem, field="chunk_count", reason="INVALID_PART")
        if len({entry.chunk.id for entry in self.entries}) != len(self.entries):
            raise Invalid("a chunk id occurs twice", field="chunks", reason="INVALID_PART")
        for entry in self.entries:
            entry.fits(self.model)
