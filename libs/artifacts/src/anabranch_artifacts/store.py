"""The store: a folder, or a URL that fsspec knows, with one folder for each artifact."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

# fsspec ships no types.
import fsspec  # type: ignore[import-untyped, unused-ignore]

from anabranch_artifacts.contents import MODELS, SIGNATURE, Kind, digest_of, digests, kind_of, safe, version_of
from anabranch_artifacts.keys import Signer, verify
from anabranch_faults import Fault, Invalid, NotFound, TooLarge, Unreachable

__all__ = ["Artifact", "ArtifactStore", "Kind", "Stored"]

_COMPLETE: Final = ".complete"  # written last: without it the artifact is not there
_FEW_GIB: Final = 8 * 2**30

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An artifact in the store. path: where, for people."""

    version: str
    digest: str
    kind: Kind
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An artifact fetched and verified; `folder` holds its files."""

    version: str
    digest: str
    folder: Path


class ArtifactStore:
    """Artifacts under their content's name. All methods block; any number of processes may use one store.

    public_key: PEM; without it no model is ever given out. Faults: Invalid, NotFound, TooLarge, Unreachable.
    """

    def __init__(self, root: str, *, public_key: Path | None) -> None:
        """Takes a local folder or a URL. Touches nothing."""
        self._root = root.rstrip("/")
        self._public_key = public_key

    def put(self, folder: Path, *, kind: Kind, signer: Signer | None) -> Stored:
        """Store all files below the folder, all or nothing; what is stored already stays. Returns its name.

        signer: models without a signature can be stored, but nobody will get them. Raises Invalid for a folder that
        holds a signature, links, hidden or odd names, or nothing.
        """
        if (folder / SIGNATURE).exists():
            raise Invalid(f"{SIGNATURE}: is the store's to write", reason="RESERVED")
        files = digests(folder)
        digest = digest_of(files)
        version = version_of(kind, digest)
        with tempfile.TemporaryDirectory(prefix="anabranch-put-") as apart, self._reached() as (fs, root):
            place = f"{root}/{version}"
            if signer is not None:
                signer.sign(folder, Path(apart) / SIGNATURE)
                signature = [(Path(apart) / SIGNATURE, SIGNATURE)]
            else:
                signature = []
            complete = Path(apart) / _COMPLETE
            complete.touch()
            if fs.exists(f"{place}/{_COMPLETE}") and self._same(version, folder=Path(apart) / "seen", digest=digest):
                # The same files; a newer signature takes the place of one by a key that is no longer used.
                self._write(fs, place, signature)
            else:
                named = [(folder / name, name) for name in files]
                self._write(fs, place, [*named, *signature, (complete, _COMPLETE)])
        return Stored(version=version, digest=digest, kind=kind, path=f"{self._root}/{version}")

    def exists(self, version: str) -> bool:
        """Whether it was stored; not whether it verifies. Raises Invalid for what is no version."""
        kind_of(version)
        with self._reached() as (fs, root):
            return bool(fs.exists(f"{root}/{version}/{_COMPLETE}"))

    def fetch(self, version: str, *, into: Path, max_bytes: int = _FEW_GIB) -> Artifact:
        """Copy it to `into/<version>` and verify the copy: digest against version, and a model's signature.

        A copy that is there and verifies is used; another one is replaced. Raises NotFound, TooLarge, and Invalid
        with reason TAMPERED, UNSIGNED, NO_PUBLIC_KEY or BAD_KEY; then nothing is left in `into`.
        """
        kind = kind_of(version)
        if kind in MODELS and self._public_key is None:
            raise Invalid(f"{version}: no public key is set to verify models with", reason="NO_PUBLIC_KEY")
        folder = into / version
        if folder.is_dir():
            with contextlib.suppress(Invalid):
                return self._verified(version, folder)
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".fetch-") as apart:
            copy = Path(apart) / version
            self._copy(version, copy, max_bytes=max_bytes)
            digest = self._verified(version, copy).digest
            shutil.rmtree(folder, ignore_errors=True)
            try:
                copy.rename(folder)
            except OSError:
                # Another process was first: its copy is as good, once it verifies.
                return self._verified(version, folder)
        return Artifact(version=version, digest=digest, folder=folder)

    def _verified(self, version: str, folder: Path) -> Artifact:
        kind = kind_of(version)
        try:
            digest = digest_of(digests(folder))
        except Invalid as fault:
            raise Invalid(f"{version}: {fault.problem}", reason="TAMPERED") from fault
        if version_of(kind, digest) != version:
            raise Invalid(f"{version}: its files are not those it was named after", reason="TAMPERED")
        if kind in MODELS and self._public_key is not None:
            try:
                verify(folder, self._public_key)
            except Invalid as fault:
                raise Invalid(f"{version}: {fault.problem}", reason=fault.reason) from fault
        return Artifact(version=version, digest=digest, folder=folder)

    def _same(self, version: str, *, folder: Path, digest: str) -> bool:
        try:
            self._copy(version, folder, max_bytes=_FEW_GIB)
            return digest_of(digests(folder)) == digest
        except Invalid:
            return False

    def _copy(self, version: str, folder: Path, *, max_bytes: int) -> None:
        with self._reached() as (fs, root):
            place = f"{root}/{version}"
            if not fs.exists(f"{place}/{_COMPLETE}"):
                raise NotFound(f"there is no artifact {version}", field="version", reason="NO_ARTIFACT")
            found: dict[str, Any] = fs.find(place, detail=True)
            size = sum(int(one.get("size") or 0) for one in found.values())
            if size > max_bytes:
                raise TooLarge(f"{version}: {size} bytes; at most {max_bytes}", reason="TOO_LARGE")
            for path, one in found.items():
                name = path.removeprefix(place).lstrip("/")
                if name == _COMPLETE:
                    continue
                try:
                    target = folder / safe(name)
                except Invalid as fault:
                    raise Invalid(f"{version}: {fault.problem}", reason="TAMPERED") from fault
                if one.get("islink"):
                    raise Invalid(f"{version}: {name} is a link", reason="TAMPERED")
                target.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(path, str(target))

    def _write(self, fs: Any, place: str, files: list[tuple[Path, str]]) -> None:
        for source, name in files:
            target = f"{place}/{name}"
            fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            if "file" not in _protocols(fs):
                fs.put_file(str(source), target)  # object stores show a file when it is whole
                continue
            beside = f"{place.rpartition('/')[0]}/.{uuid4().hex}"  # not in its folder: a crash would leave it there
            try:
                shutil.copyfile(source, beside)
                _sync(beside)
                os.replace(beside, target)  # noqa: PTH105  fsspec's paths are text
            finally:
                Path(beside).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        try:
            yield fsspec.core.url_to_fs(self._root)
        except Fault:
            raise
        except (ImportError, ValueError) as error:
            raise Invalid(f"artifacts at {self._root}: {error}", field="root", reason="BAD_STORE") from error
        except FileNotFoundError as error:
            raise NotFound(f"artifacts at {self._root}: gone while it was read", reason="NO_ARTIFACT") from error
        except OSError as error:
            raise Unreachable(f"artifacts at {self._root}: {error}") from error


def _protocols(fs: Any) -> tuple[str, ...]:
    protocol = fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
