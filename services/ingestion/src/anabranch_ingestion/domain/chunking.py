"""Cuts an extracted text into chunks that fit the embedding model's window and follow the document's structure.

The rules, in order of weight:

1. A chunk's text is exactly the extracted text over its span. Chunks are in order, do not overlap and together hold
   every non-blank character.
2. What is embedded (title, heading path and text) stays within the window.
3. A heading opens a chunk once the one before holds enough to stand alone; a heading never ends a chunk that could
   hold what follows it.
4. Tables and code stay whole where they fit a chunk; otherwise they are cut between rows or lines, and the later
   pieces of a table carry its first row at the end of their title path (the text itself repeats nothing).
5. Prose is cut between sentences; a sentence longer than the window between words; a word longer than that anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from anabranch_ingestion.domain.sentences import sentences
from anabranch_ingestion.domain.text import Block, BlockKind, Extracted, one_line

CHUNKER = "structure-1"
"""Changes when the same text would be cut differently: part of a document's fingerprint."""

_MARKER = re.compile(r"(?:[-*+\u2022\u2023\u25e6\u25aa\u2013]|\(?\d{1,3}[.)])[ \t]+")
_HEADER_CHARS = 200
_GROUP = 4096


class Tokens(Protocol):
    """Counts tokens as the embedding model does, without its special tokens.

    Counting is additive over white space: count("a b") == count("a") + count("b").
    """

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text. CPU work, milliseconds for a page."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The model's window in tokens, and how it is shared out."""

    tokens: int = 256
    specials: int = 2
    prefix: int = 48
    # A chunk of fewer tokens does not stand alone when a heading follows.
    minimum: int = 64
    # Characters: an unknown word counts one token, however long it is.
    characters: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage. `sentences` are offsets into `text`; `line` counts from 1, `page` too (0: no pages)."""

    ordinal: int
    start: int
    end: int
    text: str
    title_path: tuple[str, ...]
    kind: BlockKind
    page: int
    line: int
    token_count: int
    sentences: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Atom:
    """What is never cut further: a sentence, a row, a line, a heading, or a piece of a sentence over the window."""

    start: int
    end: int
    tokens: int
    block: Block
    # A piece of one word: joined with its neighbour it would be counted differently, so it stands alone.
    alone: bool = False


@dataclass(slots=True)
class _Open:
    """The chunk being filled."""

    path: tuple[str, ...]
    budget: int
    atoms: list[_Atom] = field(default_factory=list)
    tokens: int = 0

    @property
    def only_headings(self) -> bool:
        return all(atom.block.kind is BlockKind.HEADING for atom in self.atoms)


def chunk(document: Extracted, *, title: str, tokens: Tokens, window: Window) -> list[Chunk]:
    """The document's chunks. `title` is what will be embedded before the text; it may be empty."""
    return _Chunker(document, title=title, tokens=tokens, window=window).run()


class _Chunker:
    def __init__(self, document: Extracted, *, title: str, tokens: Tokens, window: Window) -> None:
        self._text = document.text
        self._blocks = document.blocks
        self._title = title
        self._tokens = tokens
        self._window = window
        self._budgets: dict[tuple[str, ...], int] = {}
        self._headings: list[tuple[int, str]] = []
        self._closed: list[_Open] = []
        self._open: _Open | None = None

    def run(self) -> list[Chunk]:
        for block, atoms in self._atoms():
            if block.kind is BlockKind.HEADING:
                self._heading(block, atoms)
            elif block.kind is BlockKind.PROSE:
                self._fill(atoms, whole=False)
            elif block.kind is BlockKind.ITEM:
                self._fill(atoms, whole=True)
            else:
                header = one_line(self._text[atoms[0].start : atoms[0].end])[:_HEADER_CHARS]
                self._fill(atoms, whole=True, header=header if block.kind is BlockKind.TABLE else "")
        self._close()
        return self._finish()

    # -- atoms

    def _atoms(self) -> Iterator[tuple[Block, list[_Atom]]]:
        """Blocks with their counted atoms; counted in groups, so that a long document needs little memory."""
        group: list[tuple[Block, list[tuple[int, int]]]] = []
        size = 0
        for block in self._blocks:
            spans = self._spans(block)
            group.append((block, spans))
            size += len(spans)
            if size >= _GROUP:
                yield from self._counted(group)
                group, size = [], 0
        yield from self._counted(group)

    def _spans(self, block: Block) -> list[tuple[int, int]]:
        text = self._text[block.start : block.end]
        if block.kind is BlockKind.HEADING:
            return [(block.start, block.end)]
        inner = _lines(text) if block.kind in (BlockKind.TABLE, BlockKind.CODE) else sentences(text)
        return [(block.start + start, block.start + end) for start, end in inner]

    def _counted(self, group: list[tuple[Block, list[tuple[int, int]]]]) -> Iterator[tuple[Block, list[_Atom]]]:
        counts = iter(self._count([span for _, spans in group for span in spans]))
        largest = self._window.tokens - self._window.specials - self._window.prefix
        for block, spans in group:
            atoms: list[_Atom] = []
            for start, end in spans:
                count = next(counts)
                if count <= largest:
                    atoms.append(_Atom(start, end, count, block))
                else:
                    atoms.extend(self._pieces(start, end, largest, block))
            yield block, atoms

    def _count(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Tokens of each span; what has too many characters anyway is not looked at, and counts as too many."""
        too_many = self._window.tokens + 1
        short = [end - start <= self._window.characters for start, end in spans]
        texts = [self._text[start:end] for (start, end), fits in zip(spans, short, strict=True) if fits]
        counted = iter(self._tokens.count(texts))
        return [next(counted) if fits else too_many for fits in short]

    def _pieces(self, start: int, end: int, largest: int, block: Block) -> Iterator[_Atom]:
        """An atom over the window, cut between words; words over the window, cut in halves."""
        words = [(start + a, start + b) for a, b in _words(self._text[start:end])]
        counts = self._count(words)
        begin, last, total = -1, -1, 0
        for (a, b), count in zip(words, counts, strict=True):
            long = count > largest
            if begin >= 0 and (long or total + count > largest or b - begin > self._window.characters):
                yield _Atom(begin, last, total, block)
                begin, total = -1, 0
            if long:
                yield from self._halves(a, b, largest, block)
                continue
            if begin < 0:
                begin = a
            last, total = b, total + count
        if begin >= 0:
            yield _Atom(begin, last, total, block)

    def _halves(self, start: int, end: int, largest: int, block: Block) -> Iterator[_Atom]:
        stack = [(start, end)]
        while stack:
            a, b = stack.pop()
            (count,) = self._count([(a, b)])
            if count <= largest or b - a == 1:
                yield _Atom(a, b, count, block, alone=True)
            else:
                middle = (a + b) // 2
                stack += [(middle, b), (a, middle)]

    # -- packing

    def _heading(self, block: Block, atoms: list[_Atom]) -> None:
        while self._headings and self._headings[-1][0] >= block.level:
            self._headings.pop()
        path = self._path()
        current = self._open
        if current is not None and not current.only_headings:
            # A short section may be joined by its siblings and children, never by what stands under another heading.
            elsewhere = path[: len(current.path)] != current.path
            if elsewhere or current.tokens >= self._window.minimum:
                self._close()
        self._headings.append((block.level, self._text[block.start : block.end][:_HEADER_CHARS]))
        for atom in atoms:
            self._put(atom, path)

    def _fill(self, atoms: list[_Atom], *, whole: bool, header: str = "") -> None:
        total = sum(atom.tokens for atom in atoms)
        current = self._open
        if current is not None and not current.only_headings and not self._fits(current, total, atoms[-1].end):
            # Not what is left of this chunk but a fresh one holds it whole; prose may start here if little is here yet.
            fresh = total <= self._budget(self._path()) and atoms[-1].end - atoms[0].start <= self._window.characters
            if fresh and (whole or current.tokens >= self._window.minimum):
                self._close()
        path = self._path()
        for position, atom in enumerate(atoms):
            self._put(atom, (*path, header) if header and position else path)

    def _put(self, atom: _Atom, path: tuple[str, ...]) -> None:
        current = self._open
        if current is not None and (
            atom.alone or current.atoms[-1].alone or not self._fits(current, atom.tokens, atom.end)
        ):
            self._close()
            current = None
        if current is None:
            current = self._open = _Open(path=path, budget=self._budget(path))
        current.atoms.append(atom)
        current.tokens += atom.tokens

    def _fits(self, current: _Open, tokens: int, end: int) -> bool:
        if current.tokens + tokens > current.budget:
            return False
        return end - current.atoms[0].start <= self._window.characters

    def _close(self) -> None:
        if self._open is not None:
            self._closed.append(self._open)
            self._open = None

    def _path(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._headings)

    def _budget(self, path: tuple[str, ...]) -> int:
        budget = self._budgets.get(path)
        if budget is None:
            prefix = sum(self._tokens.count([part for part in (self._title, " > ".join(path)) if part]))
            budget = self._window.tokens - self._window.specials - min(prefix, self._window.prefix)
            self._budgets[path] = budget
        return budget

    # -- chunks

    def _finish(self) -> list[Chunk]:
        chunks = []
        line, seen = 1, 0
        for ordinal, done in enumerate(self._closed):
            start = done.atoms[0].start
            line += self._text.count("\n", seen, start)
            seen = start
            chunks.append(self._chunk(ordinal, done, line))
        return chunks

    def _chunk(self, ordinal: int, done: _Open, line: int) -> Chunk:
        start, end = done.atoms[0].start, done.atoms[-1].end
        spoken = [atom for atom in done.atoms if atom.block.kind is not BlockKind.HEADING] or done.atoms
        weight = dict.fromkeys((BlockKind.PROSE, BlockKind.TABLE, BlockKind.CODE), 0)
        for atom in done.atoms:
            weight[atom.block.kind if atom.block.kind in weight else BlockKind.PROSE] += atom.tokens
        return Chunk(
            ordinal=ordinal,
            start=start,
            end=end,
            text=self._text[start:end],
            title_path=done.path,
            kind=max(weight, key=lambda kind: weight[kind]),
            page=done.atoms[0].block.page,
            line=line,
            token_count=done.tokens,
            sentences=tuple(self._sentence(atom, start) for atom in spoken),
        )

    def _sentence(self, atom: _Atom, start: int) -> tuple[int, int]:
        """The atom without a list marker: a marker is layout, and nobody wants it quoted."""
        marker = _MARKER.match(self._text, atom.start, atom.end)
        begin = marker.end() if marker is not None and marker.end() < atom.end else atom.start
        return begin - start, atom.end - start


def _lines(text: str) -> list[tuple[int, int]]:
    spans = []
    start = 0
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped:
            begin = start + len(line) - len(line.lstrip())
            spans.append((begin, begin + len(stripped)))
        start += len(line) + 1
    return spans


def _words(text: str) -> Iterable[tuple[int, int]]:
    position = 0
    for word in text.split():
        start = text.index(word, position)
        position = start + len(word)
        yield start, position
