"""A document's extracted text: one string, and the blocks it is made of.

Every offset in this service is a code point offset into `Extracted.text`. Readers build it with `Composer` (markup is
rendered to plain text, blocks are joined by one blank line, items of a list by a line break) or, where the bytes
already are plain text, keep the text as it is and say where its paragraphs lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from anabranch_faults import TooLarge

_CONTROL: dict[int, str | int | None] = dict.fromkeys(
    [*range(9), *range(14, 28), 127, *range(128, 133), *range(134, 160)]
)
# Vertical tab, form feed, the separators and Unicode's own line ends all end a line.
_CONTROL |= dict.fromkeys([11, 12, 28, 29, 30, 31, 0x85, 0x2028, 0x2029], "\n")
# A lone surrogate cannot be written as UTF-8; a byte order mark inside a text means nothing.
_CONTROL |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD) | {0xFEFF: None, 0xFFFE: None, 0xFFFF: None}
_SUSPECT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200b\u202f\u205f\u3000]+")


class BlockKind(Enum):
    """What a block is."""

    HEADING = "heading"
    PROSE = "prose"
    ITEM = "item"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A range of the text, not blank at either end. `level` is a heading's, from 1; `page` too, 0: no pages."""

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What a reader made of a body. Blocks are ordered, do not overlap and cover every non-blank character."""

    text: str
    blocks: tuple[Block, ...]
    title: str = ""
    parser: str = ""
    content_type: str = ""


def clean(text: str) -> str:
    """Newlines become line feeds; control characters and lone surrogates go. Idempotent, linear."""
    if not _SUSPECT.search(text):
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.translate(_CONTROL)


def one_line(text: str) -> str:
    """The text with every run of white space as one space, stripped."""
    return " ".join(text.split())


class Composer:
    """Collects blocks into one text. Raises TooLarge as soon as the text passes `limit` UTF-8 bytes."""

    def __init__(self, *, limit: int) -> None:
        """Takes the cap on the whole text."""
        self._limit = limit
        self._size = 0
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self.page = 0
        self.title = ""

    @property
    def empty(self) -> bool:
        """True while nothing was added."""
        return not self._blocks

    def add(self, kind: BlockKind, text: str, *, level: int = 0) -> None:
        """Adds a block; blank text adds nothing. Only code keeps blank lines inside."""
        text = clean(text)
        if kind is BlockKind.CODE:
            text = text.expandtabs(4).strip("\n").rstrip()
            if not text.strip():
                return
            # The block may not begin with white space, and the code's own indentation is worth keeping: outdent it.
            text = _outdent(text)
        else:
            text = text.strip()
        if not text:
            return
        self._size += (len(text) if text.isascii() else len(text.encode("utf-8"))) + 2
        if self._size > self._limit:
            raise TooLarge(f"the text in it is longer than {self._limit} bytes", reason="TOO_LARGE")
        if self._parts:
            # Items of a list stay together; everything else is set off by a blank line.
            gap = "\n" if kind is BlockKind.ITEM and self._blocks[-1].kind is BlockKind.ITEM else "\n\n"
            self._parts.append(gap)
            self._length += len(gap)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        self._blocks.append(Block(kind=kind, start=start, end=self._length, level=level, page=self.page))

    @property
    def barren(self) -> bool:
        """True while there is nothing but headings."""
        return all(block.kind is BlockKind.HEADING for block in self._blocks)

    def append(self, other: Composer) -> None:
        """Adds the blocks of another composer, on this one's page."""
        for part, block in zip((p for p in other._parts if p.strip()), other._blocks, strict=True):
            self.add(block.kind, part, level=block.level)

    def take(self, other: Composer) -> None:
        """Becomes the other, while this one is empty."""
        self._size, self._length = other._size, other._length
        self._parts, self._blocks = other._parts, other._blocks
        self.page, self.title = other.page, other.title

    def heading(self, text: str, level: int) -> None:
        """Adds a heading on one line."""
        self.add(BlockKind.HEADING, one_line(text), level=max(1, level))

    def prose(self, text: str) -> None:
        """Adds a paragraph; line breaks stay, runs of spaces shrink."""
        self.add(BlockKind.PROSE, _tidy(text))

    def item(self, text: str) -> None:
        """Adds a list item."""
        self.add(BlockKind.ITEM, _tidy(text))

    def code(self, text: str) -> None:
        """Adds code as it stands, outdented."""
        self.add(BlockKind.CODE, text)

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Adds a table: a row a line, cells on one line joined by ` | `; blank rows and outer blank columns go."""
        kept = []
        for row in rows:
            cells = [one_line(cell) for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                kept.append(cells)
        left = min((next(i for i, cell in enumerate(cells) if cell) for cells in kept), default=0)
        self.add(BlockKind.TABLE, "\n".join(" | ".join(cells[left:]).strip() for cells in kept))

    def build(self, *, parser: str, content_type: str) -> Extracted:
        """The document so far. One that holds a title and nothing else is a heading."""
        if self.empty and self.title.strip():
            self.heading(self.title, 1)
        return Extracted(
            text="".join(self._parts),
            blocks=tuple(self._blocks),
            title=one_line(clean(self.title))[:512],
            parser=parser,
            content_type=content_type,
        )


def _tidy(text: str) -> str:
    text = _SPACES.sub(" ", text)
    if "\n" not in text:
        return text
    return "\n".join(line for line in (line.strip() for line in text.splitlines()) if line)


def _outdent(text: str) -> str:
    lines = text.split("\n")
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    lines = [line[indent:].rstrip() for line in lines]
    # A first line still indented would leave white space at the block's start.
    lines[0] = lines[0].lstrip()
    return "\n".join(lines)


def paragraphs(text: str) -> list[tuple[int, int]]:
    """Spans of the paragraphs of a plain text: what blank lines separate, without white space at the ends."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _BLANK_LINES.finditer(text):
        _append_trimmed(spans, text, start, match.start())
        start = match.end()
    _append_trimmed(spans, text, start, len(text))
    return spans


def _append_trimmed(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    part = text[start:end]
    stripped = part.strip()
    if stripped:
        begin = start + len(part) - len(part.lstrip())
        spans.append((begin, begin + len(stripped)))
