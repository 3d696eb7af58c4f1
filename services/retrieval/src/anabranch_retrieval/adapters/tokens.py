"""Names and labels as both indexes keep them: fixed-size hexadecimal digests.

What users choose (document ids, metadata, labels) never becomes part of a filter expression as text, so no quoting can
go wrong, whatever its length or alphabet.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from anabranch_retrieval.domain import CorpusKey

EVERYONE = "everyone"  # no digest looks like this
_READABLE = 20
_DIGEST = 32


def document(document_id: str) -> str:
    """Token of a document id."""
    return _digest("document", document_id)


def facets(metadata: Mapping[str, str]) -> list[str]:
    """One token for each key with its value."""
    return sorted(_digest("facet", key, value) for key, value in metadata.items())


def labels(acl: Iterable[str]) -> list[str]:
    """Who may read a document: a token for each label, or EVERYONE when there is none."""
    return sorted(_digest("label", label) for label in set(acl)) or [EVERYONE]


def readers(acl: Iterable[str]) -> list[str]:
    """What a reader holding these labels may see: one of these tokens must be on the document."""
    return [EVERYONE, *sorted(_digest("label", label) for label in set(acl))]


def corpus(key: CorpusKey) -> str:
    """A name for the corpus of at most 63 letters, digits and `_`, not starting with a digit; readable, and unique."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", f"{key.tenant}_{key.corpus}")[:_READABLE]
    return f"c_{readable}_{_digest('corpus', key.tenant, key.corpus)}"


def version(name: str) -> str:
    """A name for an embedding version: letters, digits and `_`; readable, and unique."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name)[: _READABLE * 2]
    return f"{readable}_{_digest('version', name)[:12]}"


def _digest(kind: str, *parts: str) -> str:
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        # The length stands before each part, so that no two lists of parts read the same.
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.hexdigest()[:_DIGEST]
