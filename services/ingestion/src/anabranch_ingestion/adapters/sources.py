"""Bodies by reference: read only from the roots an operator allowed, never over a size.

`file:` is opened and then looked at where it really is, so that neither `..` nor a symbolic link leads out of a root.
Other schemes (object stores) go through fsspec. Web addresses are not fetched: a producer that could make ingestion
ask any host would reach hosts it must not.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from anabranch_faults import Transient
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.refusals import Reason, Refused

_AT_ONCE = 4
REFUSED_SCHEMES = frozenset(("http", "https", "ftp", "data", "memory", "local", "cached", "simplecache", "filecache"))


@dataclass(frozen=True, slots=True)
class Root:
    """A scheme, and a folder or prefix in it, without a slash at its end."""

    scheme: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Root:
        """`file:///srv/documents`, `s3://bucket/prefix`. Raises ValueError in a sentence."""
        parts = urlsplit(text)
        if not parts.scheme:
            raise ValueError(f"{text!r} has no scheme; write file:///folder or s3://bucket/prefix")
        if parts.scheme in REFUSED_SCHEMES:
            raise ValueError(f"{text!r}: {parts.scheme} is not a scheme ingestion reads from")
        path = unquote(parts.path) if parts.scheme == "file" else f"{parts.netloc}{unquote(parts.path)}"
        if parts.scheme == "file" and (parts.netloc not in ("", "localhost") or not path.startswith("/")):
            raise ValueError(f"{text!r} must be file:///folder, with three slashes")
        return cls(parts.scheme, path.rstrip("/"))


class AllowedSources:
    """The `Sources` port."""

    def __init__(self, roots: Sequence[str], *, limit: int, timeout: timedelta = timedelta(seconds=15)) -> None:
        """Takes roots as `Root.parse` reads them; none at all refuses every uri."""
        self._roots = [Root.parse(root) for root in roots]
        self._limit = limit
        self._timeout = timeout.total_seconds()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, uri: str) -> Body:
        """The bytes at `uri`."""
        scheme, path = self._allowed(uri)
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    data = await asyncio.to_thread(self._read, scheme, path)
            except TimeoutError as error:
                raise Transient("the uri was not read in time") from error
        return Body(data=data, filename=PurePosixPath(path).name[:512])

    def _allowed(self, uri: str) -> tuple[str, str]:
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise _refused("it is not a uri") from error
        roots = [root for root in self._roots if root.scheme == parts.scheme]
        if not roots:
            known = ", ".join(sorted({root.scheme for root in self._roots})) or "none"
            raise _refused(f"the scheme {parts.scheme[:20]!r} is not allowed here (allowed: {known})")
        path = unquote(parts.path) if parts.scheme == "file" else f"{parts.netloc}{unquote(parts.path)}"
        if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
            raise _refused("a file uri names no host; write file:///folder/file")
        if "\x00" in path or ".." in PurePosixPath(path).parts:
            raise _refused("it must not go up with ..")
        if parts.query or parts.fragment:
            raise _refused("it must have neither query nor fragment")
        if not any(_within(path, root.path) for root in roots):
            raise _refused("it is outside of the roots that are allowed here")
        return parts.scheme, path

    def _read(self, scheme: str, path: str) -> bytes:
        try:
            return self._read_file(path) if scheme == "file" else self._read_remote(scheme, path)
        except FileNotFoundError as error:
            raise _refused("there is nothing at it") from error
        except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
            raise _refused(f"it cannot be read ({type(error).__name__})") from error
        except OSError as error:
            raise Transient(f"the uri cannot be read now ({type(error).__name__})") from error

    def _read_file(self, path: str) -> bytes:
        # Not blocking: a pipe in a root must not hold a thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            # What was opened, not what the name meant a moment ago.
            real = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            roots = [os.path.realpath(root.path or "/") for root in self._roots if root.scheme == "file"]
            if not any(_within(real, root) for root in roots):
                raise _refused("it leads outside of the roots that are allowed here")
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _refused("it is not a regular file")
            self._check(found.st_size)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(self._limit + 1)
        finally:
            os.close(descriptor)
        self._check(len(data))
        return data

    def _read_remote(self, scheme: str, path: str) -> bytes:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415  only where a root needs it; it has no types

        try:
            system: Any = fsspec.filesystem(scheme)
        except (ImportError, ValueError) as error:
            raise _refused(f"the scheme {scheme!r} needs a package that is not installed") from error
        size = system.info(path).get("size")
        if isinstance(size, int):
            self._check(size)
        data = bytes(system.cat_file(path, end=self._limit + 1))
        self._check(len(data))
        return data

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise Refused(Reason.TOO_LARGE, f"the body has {size} bytes, over the limit {self._limit}", field="uri")


def _within(path: str, root: str) -> bool:
    root = root.rstrip("/")
    return path == root or path.startswith(root + "/")


def _refused(problem: str) -> Refused:
    return Refused(Reason.URI_REFUSED, problem, field="uri")
