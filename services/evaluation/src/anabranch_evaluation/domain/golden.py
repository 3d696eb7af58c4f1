"""Golden sets: questions with what is right for them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from anabranch_faults import Invalid, TooLarge

NAME: Final = re.compile(r"[a-z0-9._-]{1,128}")
MAX_QUESTIONS: Final = 20_000
MAX_QUERY: Final = 4_096
MAX_METADATA: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuestion:
    """A question, and documents or chunks (id -> relevance above 0) and answers that are right for it."""

    question_id: str
    text: str
    answers: tuple[str, ...] = ()
    documents: Mapping[str, int] = field(default_factory=dict)
    chunks: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    unanswerable: bool = False

    @property
    def relevant(self) -> Mapping[str, int]:
        """What a search should find: chunks where they are named, else documents."""
        return self.chunks or self.documents


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """A golden set of a tenant, immutable: `version` follows from everything but the name and when it was put."""

    tenant: str
    name: str
    corpus: str
    questions: tuple[GoldenQuestion, ...]
    slices: tuple[str, ...] = ()

    @cached_property
    def version(self) -> str:
        """`ds-` and 12 hex digits."""
        return f"ds-{hashlib.sha256(self.canonical()).hexdigest()[:12]}"

    def canonical(self) -> bytes:
        """The content in one form, whatever order it came in."""
        rows = [
            {
                "id": one.question_id,
                "text": one.text,
                "answers": list(one.answers),
                "documents": dict(one.documents),
                "chunks": dict(one.chunks),
                "metadata": dict(one.metadata),
                "unanswerable": one.unanswerable,
            }
            for one in sorted(self.questions, key=lambda one: one.question_id)
        ]
        content = {"corpus": self.corpus, "slices": sorted(self.slices), "questions": rows}
        return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_canonical(cls, content: bytes, *, tenant: str, name: str) -> GoldenSet:
        """Reads `canonical` back."""
        data: dict[str, Any] = json.loads(content)
        return cls(
            tenant=tenant,
            name=name,
            corpus=data["corpus"],
            slices=tuple(data["slices"]),
            questions=tuple(
                GoldenQuestion(
                    question_id=row["id"],
                    text=row["text"],
                    answers=tuple(row["answers"]),
                    documents=row["documents"],
                    chunks=row["chunks"],
                    metadata=row["metadata"],
                    unanswerable=row["unanswerable"],
                )
                for row in data["questions"]
            ),
        )

    def check(self) -> None:
        """Raises Invalid, naming the field, for a set that nothing could be measured with."""
        if not self.tenant:
            raise Invalid("is empty", field="tenant")
        if not NAME.fullmatch(self.name):
            raise Invalid("must match [a-z0-9._-]{1,128}", field="name")
        if not self.corpus:
            raise Invalid("is empty: a golden set is about one corpus", field="corpus")
        if not self.questions:
            raise Invalid("is empty: a golden set needs at least one question", field="questions")
        if len(self.questions) > MAX_QUESTIONS:
            raise TooLarge(f"has {len(self.questions)} entries, at most {MAX_QUESTIONS} are taken", field="questions")
        seen: set[str] = set()
        for place, one in enumerate(self.questions):
            _check(one, f"questions[{place}]")
            if one.question_id in seen:
                raise Invalid(f"{one.question_id} is there twice", field=f"questions[{place}].question_id")
            seen.add(one.question_id)

    def groups(self, question_ids: Iterable[str]) -> Mapping[str, Sequence[str]]:
        """Slice (`key=value`) -> the questions of it, both in order; slices of the keys this set declares."""
        wanted = set(question_ids)
        found: dict[str, list[str]] = {}
        for one in sorted(self.questions, key=lambda one: one.question_id):
            if one.question_id in wanted:
                for key in sorted(set(self.slices)):
                    if key in one.metadata:
                        found.setdefault(f"{key}={one.metadata[key]}", []).append(one.question_id)
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenEntry:
    """A golden set in a line."""

    name: str
    corpus: str
    version: str
    questions: int
    put_at: datetime


def _check(one: GoldenQuestion, place: str) -> None:
    if not one.question_id or len(one.question_id) > 256:  # noqa: PLR2004  the limit of the sentence
        raise Invalid("must have 1 to 256 characters", field=f"{place}.question_id")
    if not one.text.strip() or len(one.text) > MAX_QUERY:
        raise Invalid(f"must have 1 to {MAX_QUERY} characters", field=f"{place}.text")
    if len(one.metadata) > MAX_METADATA:
        raise TooLarge(f"has {len(one.metadata)} entries, at most {MAX_METADATA} are taken", field=f"{place}.metadata")
    for name, relevant in (("relevant_documents", one.documents), ("relevant_chunks", one.chunks)):
        for key, relevance in relevant.items():
            if not key or relevance <= 0:
                raise Invalid(f"{key!r} has relevance {relevance}: it must be above 0", field=f"{place}.{name}")
    if not one.unanswerable and not one.relevant and not one.answers:
        raise Invalid("names nothing that is right: documents, chunks, answers or unanswerable", field=place)
