"""XML to blocks without knowing its vocabulary: what stands between block elements is a paragraph, titles are headings.

Entities are never expanded and nothing is fetched: a document that declares entities of its own is refused.
"""

from __future__ import annotations

import re
from html.entities import html5
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException, EntitiesForbidden  # type: ignore[import-untyped]  # it has no types
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]  # it has no types

from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import Composer

_HEADINGS_WORDS = (
    "title heading head h1 h2 h3 h4 h5 h6 article-title invention-title section-title subtitle caption-title"
)
_HEADINGS = frozenset(_HEADINGS_WORDS.split())
_INLINE_WORDS = (
    "a b i u em strong sup sub span italic bold emphasis xref ref ext-link code tt font small o named-content sc "
    "sub2 sup2 smallcaps link term inline-formula underline uri email abbr cite q br figref claim-ref bold-italic "
    "given-names surname pdat hil f"
)
_INLINE = frozenset(_INLINE_WORDS.split())
_CODE = frozenset(("programlisting", "screen", "pre", "literallayout", "code-block"))
_SKIP = frozenset(("script", "style", "math", "tex-math", "mml:math", "binary"))
_ROWS = frozenset(("tr", "row", "table-row"))
_CELLS = frozenset(("td", "th", "entry", "cell", "table-cell"))
_NAMED = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,40});")
_DEPTH = 512
_LEVELS = 6
PARSER = "expat-1"


def compose(data: bytes, out: Composer) -> str:
    """Adds the document's blocks. Raises Refused UNPARSEABLE on XML that is not well-formed or declares entities."""
    if b"<!DOCTYPE" not in data[:4096]:
        # Without a DTD the parser knows five entities; HTML's are common all the same.
        data = _NAMED.sub(_character, data)
    target = _Target(out)
    try:
        parser = DefusedXMLParser(target=target, forbid_dtd=False, forbid_entities=True, forbid_external=True)
        # Entities that only name a picture (NDATA) expand to nothing and are common in patents.
        parser.parser.EntityDeclHandler = _declared
        parser.parser.UnparsedEntityDeclHandler = None
        # HTML's character entities, which a document may use when its DTD is elsewhere.
        parser.entity = _Entities()
        parser.feed(data)
        parser.close()
    except DefusedXmlException as error:
        problem = "the XML declares entities, which are not expanded; send it with the entities resolved"
        raise Refused(Reason.UNPARSEABLE, problem) from error
    except (ParseError, ValueError, LookupError) as error:
        raise Refused(Reason.UNPARSEABLE, f"the XML is not well-formed: {error}") from error
    target.flush()
    return PARSER


class _Entities(dict[str, str]):
    """Characters by name; a name nobody knows is left out rather than losing the document."""

    def __missing__(self, name: str) -> str:
        return html5.get(name + ";", "")


def _character(reference: re.Match[bytes]) -> bytes:
    name = reference.group(1).decode("ascii")
    if name in ("amp", "lt", "gt", "quot", "apos"):
        return reference.group()
    return html5.get(name + ";", "").encode()


def _declared(name: str, *declaration: str | None) -> None:
    """Expat's report of an entity: is it a parameter, its value, base, system and public id, and notation."""
    _, value, base, system, public, notation = declaration
    if notation is None:
        raise EntitiesForbidden(name, value, base, system, public, notation)


class _Target:
    """What the parser calls, element by element; holds one paragraph, row and table at a time."""

    def __init__(self, out: Composer) -> None:
        self._out = out
        self._names: list[str] = []
        self._text: list[str] = []
        self._row: list[str] = []
        self._rows: list[list[str]] = []
        self._cells = 0
        self._skipped = 0
        self._sections = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element opens."""
        del attributes
        name = tag.rsplit("}", 1)[-1].lower()
        self._names.append(name)
        if len(self._names) > _DEPTH:
            raise Refused(Reason.UNPARSEABLE, f"the XML is nested deeper than {_DEPTH} levels")
        self._skipped += name in _SKIP
        self._sections += name in ("sec", "section", "chapter", "subsection")
        if name in _CELLS:
            self._cells += 1
        elif self._cells:
            self._text.append(" ")
        elif name in _INLINE:
            if name == "br":
                self._text.append("\n")
        else:
            self._paragraph()

    def data(self, text: str) -> None:
        """Characters."""
        if not self._skipped:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """An element closes."""
        name = tag.rsplit("}", 1)[-1].lower()
        self._names.pop()
        self._skipped -= name in _SKIP
        if name in _CELLS:
            self._cells -= 1
            if not self._cells:
                self._row.append("".join(self._text))
                self._text.clear()
        elif name in _ROWS and self._row and not self._cells:
            self._rows.append(self._row)
            self._row = []
        elif self._cells or name in _INLINE:
            pass
        elif name in _HEADINGS:
            self._heading()
        elif name in _CODE:
            self._out.code("".join(self._text))
            self._text.clear()
        else:
            self._paragraph()
            self._table(name)
        self._sections -= name in ("sec", "section", "chapter", "subsection")

    def close(self) -> None:
        """The document is over."""

    def flush(self) -> None:
        """Adds what is still held."""
        self._paragraph()
        self._table("")

    def _heading(self) -> None:
        text = " ".join("".join(self._text).split())
        self._text.clear()
        if text and not self._out.title:
            self._out.title = text
        self._out.heading(text, min(_LEVELS, 1 + self._sections))

    def _paragraph(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        if text.strip():
            if self._names and self._names[-1] in _CODE:
                self._out.code(text)
            else:
                self._out.prose(re.sub(r"\s*\n\s*", " ", text))

    def _table(self, name: str) -> None:
        if self._row:
            self._rows.append(self._row)
            self._row = []
        if self._rows and name not in _ROWS:
            # Bodies and heads of one table are one table: it ends with what holds them.
            if name in ("tbody", "thead", "tfoot", "tgroup"):
                return
            self._out.table(self._rows)
            self._rows = []
