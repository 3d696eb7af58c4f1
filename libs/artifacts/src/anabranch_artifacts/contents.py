"""What an artifact is made of: files by path and content, one digest over them, a name from that."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from anabranch_faults import Invalid

Kind = Literal["reranker", "adapter", "reward", "dataset"]

CARD: Final = "card.md"
BOM: Final = "bom.json"
SIGNATURE: Final = "model.sig"  # beside the files; part of neither digest nor signature
PREFIXES: Final[Mapping[Kind, str]] = {"reranker": "rr-", "adapter": "ad-", "reward": "rw-", "dataset": "ds-"}
MODELS: Final[frozenset[Kind]] = frozenset({"reranker", "adapter", "reward"})
_KINDS: Final[Mapping[str, Kind]] = {prefix: kind for kind, prefix in PREFIXES.items()}
_VERSION: Final = re.compile(r"(rr-|ad-|rw-|ds-)[0-9a-f]{12}")
_SHOWN: Final = 12
_MAX_FILES: Final = 10_000


def version_of(kind: Kind, digest: str) -> str:
    """The version that content of this kind has."""
    return f"{PREFIXES[kind]}{digest[:_SHOWN]}"


def kind_of(version: str) -> Kind:
    """The kind a version says it is. Raises Invalid for what is no version (a path, for one)."""
    found = _VERSION.fullmatch(version)
    if found is None:
        problem = f"{version[:80]!r} is no version of an artifact (as rr- and 12 hex digits)"
        raise Invalid(problem, field="version", reason="INVALID_VERSION")
    return _KINDS[found[1]]


def digests(folder: Path) -> dict[str, str]:
    """Path to sha256 of every file below the folder, but for the signature. Reads them all.

    Raises Invalid for what an artifact cannot hold: links, devices, names that mean something to a shell or a store,
    no file at all.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Invalid(f"{name}: neither a file nor a folder", reason="NOT_A_FILE")
        if path.is_file() and name != SIGNATURE:
            found[safe(name)] = _sha256(path)
        if len(found) > _MAX_FILES:
            raise Invalid(f"more than {_MAX_FILES} files", reason="TOO_MANY_FILES")
    if not found:
        raise Invalid(f"{folder.name}: no files", reason="EMPTY")
    return found


def digest_of(files: Mapping[str, str]) -> str:
    """One sha256 over path to sha256, in hex. The same files give the same digest, wherever they lie."""
    lines = "".join(f"{found}  {name}\n" for name, found in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def safe(name: str) -> str:
    """The relative path, when it stays below its folder on every system. Raises Invalid."""
    parts = PurePosixPath(name).parts
    odd = not name.isprintable() or "\\" in name or ":" in name or name.startswith("/") or name != "/".join(parts)
    if odd or not parts or any(part in {"..", "."} or part.startswith(".") for part in parts):
        raise Invalid(f"{name[:80]!r} is no name for a file of an artifact", reason="INVALID_NAME")
    return name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
