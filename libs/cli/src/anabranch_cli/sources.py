"""What `anabranch put` reads: files, folders, and JSONL corpora."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_cli.datasets import read_jsonl
from anabranch_faults import Invalid

__all__ = ["LARGEST_BYTES", "Refused", "Source", "sources"]

LARGEST_BYTES: Final = 20 * 1024 * 1024
"""Largest body that travels inside a record; larger ones go by reference."""

_METADATA_KEYS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One document to put: read only when it is its turn."""

    document_id: str
    path: Path | None = None
    row: Mapping[str, Any] = field(default_factory=dict)

    def message(self, *, tenant: str, corpus: str) -> DocumentChanged:
        """The change as the contract has it. Raises Invalid for a file that cannot be read or is too large."""
        message = DocumentChanged(tenant=tenant, corpus=corpus, document_id=self.document_id)
        if self.path is None:
            message.text = str(self.row.get("text") or "")
            message.title = str(self.row.get("title") or "")
            for name, value in sorted((self.row.get("metadata") or {}).items())[:_METADATA_KEYS]:
                message.metadata[name] = str(value)
            return message
        try:
            if (size := self.path.stat().st_size) > LARGEST_BYTES:
                raise Invalid(
                    f"the file has {size:,} bytes, {LARGEST_BYTES:,} are allowed; send it by reference (uri)",
                    field="content",
                )
            message.content = self.path.read_bytes()
        except OSError as error:
            raise Invalid(f"the file cannot be read: {error.strerror}", field="content") from error
        message.filename = self.path.name
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A document that was not sent at all."""

    document_id: str
    reason: str


def sources(paths: Iterable[Path]) -> list[Source]:
    """Documents below the paths, in a stable order. Raises Invalid for a path that does not exist, or none found.

    A file's id is its name, a file in a folder that was named has its path below it; a row of a JSONL corpus
    (`_id`, `title`, `text`) has its `_id`. Hidden files and folders are left out.
    """
    found = [source for path in paths for source in _below(path)]
    if not found:
        raise Invalid("no document found there", field="path")
    return found


def _below(path: Path) -> Iterator[Source]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                yield Source(document_id=inside.as_posix(), path=file)
    elif not path.is_file():
        raise Invalid(f"{path} does not exist", field="path")
    elif is_corpus(path):
        for number, row in enumerate(read_jsonl(path), start=1):
            if not row.get("_id"):
                raise Invalid(f"{path.name} row {number} has no `_id`", field="path")
            yield Source(document_id=str(row["_id"]), row=row)
    else:
        yield Source(document_id=path.name, path=path)


def is_corpus(path: Path) -> bool:
    """Whether a file is a JSONL corpus: by its suffix and its first row."""
    if path.suffix != ".jsonl":
        return False
    try:
        first = next(iter(read_jsonl(path)), {})
    except Invalid:
        return False
    return "_id" in first and "text" in first
