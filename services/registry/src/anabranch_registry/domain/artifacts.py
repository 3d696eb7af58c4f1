"""Models and data sets: entries about artifacts that lie elsewhere, named by their content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from anabranch_faults import Invalid
from anabranch_registry.domain.checks import check_identifier, check_length

__all__ = ["Dataset", "Gate", "Model", "ModelKind"]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MAX_CARD: Final = 262_144
_MAX_ENTRIES: Final = 200


class ModelKind(StrEnum):
    """What a model does."""

    RERANKER = "RERANKER"
    ADAPTER = "ADAPTER"
    REWARD = "REWARD"


_PREFIX: Final = {ModelKind.RERANKER: "rr-", ModelKind.ADAPTER: "ad-", ModelKind.REWARD: "rw-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained artifact's entry."""

    noun: ClassVar[str] = "model"

    model_version: str
    kind: ModelKind
    digest: str
    format: str = ""
    algorithm: str = ""
    dataset_version: str = ""
    base_model: str = ""
    feature_set: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    card: str = ""
    created_at: datetime

    @property
    def key(self) -> str:
        """Its id."""
        return self.model_version

    def check(self, path: str = "model") -> None:
        """Raise Invalid or TooLarge with the field at fault."""
        _check_named(self.digest, self.model_version, _PREFIX[self.kind], path, "model_version")
        check_identifier(self.dataset_version, f"{path}.dataset_version")
        for name, text in (
            ("format", self.format),
            ("algorithm", self.algorithm),
            ("base_model", self.base_model),
            ("feature_set", self.feature_set),
        ):
            check_length(text, f"{path}.{name}", 256)
        check_length(self.card, f"{path}.card", _MAX_CARD)
        _check_count(self.metrics, f"{path}.metrics")
        _check_count(self.provenance, f"{path}.provenance")

    @staticmethod
    def named(kind: ModelKind, digest: str) -> str:
        """Return the version of a model of this digest."""
        return f"{_PREFIX[kind]}{digest[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set's entry."""

    noun: ClassVar[str] = "dataset"

    dataset_version: str
    kind: str
    tenant: str = ""
    corpus: str = ""
    digest: str
    counts: Mapping[str, int] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None
    datasheet: str = ""
    created_at: datetime

    @property
    def key(self) -> str:
        """Its id."""
        return self.dataset_version

    def check(self, path: str = "dataset") -> None:
        """Raise Invalid or TooLarge with the field at fault."""
        _check_named(self.digest, self.dataset_version, "ds-", path, "dataset_version")
        check_length(self.tenant, f"{path}.tenant", 64)
        check_length(self.corpus, f"{path}.corpus", 128)
        check_length(self.datasheet, f"{path}.datasheet", _MAX_CARD)
        _check_count(self.counts, f"{path}.counts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The verdict of a gate, as far as lineage needs it."""

    noun: ClassVar[str] = "gate"

    gate_id: str
    candidate_id: str
    passed: bool
    reason: str
    decided_at: datetime

    @property
    def key(self) -> str:
        """Its id."""
        return self.gate_id


def _check_named(digest: str, version: str, prefix: str, path: str, name: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise Invalid("is not a sha256 in 64 hex digits", field=f"{path}.digest", reason="NOT_A_DIGEST")
    right = f"{prefix}{digest[:12]}"
    if version != right:
        raise Invalid(f"is {version!r}, but the digest makes it {right}", field=f"{path}.{name}", reason="ID_MISMATCH")


def _check_count(entries: Mapping[str, object], path: str) -> None:
    if len(entries) > _MAX_ENTRIES:
        raise Invalid(f"has {len(entries)} entries; the limit is {_MAX_ENTRIES}", field=path, reason="TOO_MANY")
