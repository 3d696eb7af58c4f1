"""`Reader`: short plain texts in place, everything else in a worker process."""

from __future__ import annotations

from anabranch_ingestion.adapters.isolation.pool import WorkerPool
from anabranch_ingestion.adapters.parsing.reading import READERS, ReadLimits, is_simple, read
from anabranch_ingestion.adapters.tokens import MiniLmTokens
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.chunking import CHUNKER, Window, chunk
from anabranch_ingestion.domain.documents import Parsed
from anabranch_ingestion.domain.refusals import Reason, Refused

_IN_PLACE = 32_768


class IsolatedReader:
    """The `Reader` port.

    A body of at most 32 KiB that is text for this package's own readers (plain, Markdown, reStructuredText, CSV,
    subtitles) is read on the event loop: a millisecond or two, linear, no native code but the tokenizer. It never
    waits behind what a worker is stuck in.
    """

    def __init__(self, pool: WorkerPool, *, limits: ReadLimits, window: Window) -> None:
        """Takes a pool that somebody else starts and closes."""
        self._pool = pool
        self._limits = limits
        self._window = window

    @property
    def version(self) -> str:
        """Readers, chunker and window: what decides how a body comes out."""
        return f"{READERS} {CHUNKER} {self._window.tokens}"

    async def read(self, body: Body, *, title: str) -> Parsed:
        """The body's text and chunks."""
        text = is_simple(body, _IN_PLACE)
        if text is None:
            return await self._pool.parse(body, title=title)
        try:
            return read_in_place(body, title=title, limits=self._limits, window=self._window)
        except RecursionError:
            raise Refused(Reason.UNPARSEABLE, "it is nested too deeply to be a document") from None


def read_in_place(body: Body, *, title: str, limits: ReadLimits, window: Window) -> Parsed:
    """Reads and cuts a body in this process. Raises Refused."""
    extracted = read(body, limits)
    title = title or extracted.title
    chunks = chunk(extracted, title=title, tokens=MiniLmTokens.load(), window=window)
    return Parsed(
        text=extracted.text,
        title=title,
        parser=extracted.parser,
        content_type=extracted.content_type,
        chunks=tuple(chunks),
    )
