"""Markdown to blocks: CommonMark's blocks, GitHub's tables, front matter; inline markup rendered to plain text.

Written for retrieval, not for typesetting: quotes lose their marks, nested lists become items in a row, raw HTML tags
and comments go. Also reads what xberg renders. Linear in the length of the text; safe on the event loop for small ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from anabranch_ingestion.adapters.parsing import hypertext
from anabranch_ingestion.adapters.parsing.inline import plain, without_comments
from anabranch_ingestion.domain.text import Composer, clean, one_line

_ATX = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_CLOSING = re.compile(r"[ \t]+#+[ \t]*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-{2,})[ \t]*$")
_RULE = re.compile(r"^ {0,3}(?:\*[ \t]*){3,}$|^ {0,3}(?:-[ \t]*){3,}$|^ {0,3}(?:_[ \t]*){3,}$")
_FENCE = re.compile(r"^ {0,12}(`{3,}|~{3,})([^`]*)$")
_ITEM = re.compile(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]+(?:\[[ xX]\][ \t]+)?|$)")
_NUMBER = re.compile(r"^[ \t]*(\d{1,9}[.)])[ \t]")
_QUOTE = re.compile(r"^ {0,3}(?:>[ \t]?)+")
_DELIMITER = re.compile(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_DEFINITION = re.compile(r"^ {0,3}\[[^\[\]\n]+\]:[ \t]*\S+[ \t]*(?:\"[^\"]*\"|'[^']*'|\([^()]*\))?[ \t]*$")
_FOOTNOTE = re.compile(r"^ {0,3}\[\^[^\[\]\s]+\]:[ \t]*")
_CELL = re.compile(r"(?<!\\)\|")
_MARKUP = re.compile(
    r"^ {0,3}</?(?:table|div|p|ul|ol|dl|details|section|article|center|figure|h[1-6]|pre|blockquote|img)[\s/>]",
    re.IGNORECASE,
)
_MARKUP_ANYWHERE = re.compile(_MARKUP.pattern, re.IGNORECASE | re.MULTILINE)
_MATTER_TITLE = re.compile(r"^title:[ \t]*[\"']?(.*?)[\"']?[ \t]*$", re.MULTILINE | re.IGNORECASE)


def holds_markup(text: str) -> bool:
    """True when reading this text would hand parts of it to the HTML parser, which is native code."""
    return bool(_MARKUP_ANYWHERE.search(text))


PageMark = Callable[[str], int | None]


def compose(text: str, out: Composer, *, page_mark: PageMark | None = None) -> None:
    """Adds the text's blocks. `page_mark` tells the page that a line announces, None for an ordinary line."""
    _Reader(out, page_mark).read(without_comments(clean(text)))


class _Reader:
    def __init__(self, out: Composer, page_mark: PageMark | None) -> None:
        self._out = out
        self._page_mark = page_mark
        self._paragraph: list[str] = []
        self._item = False

    def read(self, text: str) -> None:
        lines = self._front_matter(text).split("\n")
        position = 0
        while position < len(lines):
            position = self._line(lines, position)
        self._flush()

    def _front_matter(self, text: str) -> str:
        if not text.startswith("---\n"):
            return text
        end = text.find("\n---", 3)
        if end < 0 or end > 8192 or ":" not in text[:end]:  # noqa: PLR2004  front matter is short
            return text
        title = _MATTER_TITLE.search(text[:end])
        if title:
            self._out.title = title.group(1)
        return text[end + 4 :]

    def _line(self, lines: list[str], position: int) -> int:  # noqa: PLR0911  one return a case
        line = lines[position]
        if not line.strip():
            self._flush()
            return position + 1
        if self._page_mark is not None and (page := self._page_mark(line)) is not None:
            self._flush()
            self._out.page = page
            return position + 1
        if line[0] == ">" or line.lstrip(" ")[:1] == ">":
            line = _QUOTE.sub("", line)
            if not line.strip():
                self._flush()
                return position + 1
        if (fence := _FENCE.match(line)) is not None:
            return self._fenced(lines, position, fence.group(1))
        if (line.startswith("    ") or line[0] == "\t") and not self._paragraph and not self._item:
            return self._indented(lines, position)
        if (atx := _ATX.match(line)) is not None:
            self._flush()
            self._item = False
            self._out.heading(plain(_CLOSING.sub("", atx.group(2) or "")), len(atx.group(1)))
            return position + 1
        if self._paragraph and not self._item and (setext := _SETEXT.match(line)) is not None:
            title, self._paragraph = " ".join(self._paragraph), []
            self._out.heading(plain(title), 1 if setext.group(1)[0] == "=" else 2)
            return position + 1
        if _MARKUP.match(line):
            return self._markup(lines, position)
        return self._text_line(lines, position, line)

    def _markup(self, lines: list[str], position: int) -> int:
        """A block of raw HTML, up to the next blank line, read as HTML."""
        end = position
        while end < len(lines) and lines[end].strip():
            end += 1
        self._flush()
        self._item = False
        page = Composer(limit=sum(len(line) for line in lines[position:end]) * 4 + 4096)
        hypertext.compose("\n".join(lines[position:end]), page)
        self._out.append(page)
        return end

    def _text_line(self, lines: list[str], position: int, line: str) -> int:
        if _RULE.match(line) or _DEFINITION.match(line):
            self._flush()
            return position + 1
        if "|" in line and position + 1 < len(lines) and "-" in lines[position + 1]:
            under = lines[position + 1]
            if "|" in under and _DELIMITER.match(under):
                return self._table(lines, position)
        item = _ITEM.match(line)
        if item is not None:
            self._flush()
            self._item = True
            number = _NUMBER.match(line)
            line = (number.group(1) + " " if number else "- ") + line[item.end() :]
        elif not self._paragraph:
            # Text at the margin after a blank line is no longer the list's.
            self._item = self._item and line[0] in " \t"
        self._paragraph.append(_FOOTNOTE.sub("", line).strip())
        return position + 1

    def _flush(self) -> None:
        if not self._paragraph:
            return
        text = plain("\n".join(self._paragraph))
        self._paragraph = []
        if self._item:
            self._out.item(text)
        else:
            self._out.prose(text)

    def _fenced(self, lines: list[str], position: int, fence: str) -> int:
        self._flush()
        body = []
        position += 1
        while position < len(lines):
            line = lines[position]
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                position += 1
                break
            body.append(line)
            position += 1
        self._out.code("\n".join(body))
        return position

    def _indented(self, lines: list[str], position: int) -> int:
        body = []
        while position < len(lines) and (not lines[position].strip() or lines[position].startswith(("    ", "\t"))):
            body.append(lines[position])
            position += 1
        self._out.code("\n".join(body))
        return position

    def _table(self, lines: list[str], position: int) -> int:
        self._flush()
        self._item = False
        rows = [_cells(lines[position])]
        position += 2
        while position < len(lines) and "|" in lines[position] and lines[position].strip():
            rows.append(_cells(lines[position]))
            position += 1
        self._out.table(rows)
        return position


def _cells(line: str) -> list[str]:
    line = line.strip()
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [one_line(plain(cell.replace("\\|", "|"))) for cell in _CELL.split(line)]
