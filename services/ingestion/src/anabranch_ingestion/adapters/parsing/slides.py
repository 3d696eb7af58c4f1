"""OpenDocument presentations: slides from content.xml alone, so that master pages' placeholders stay out."""

from __future__ import annotations

import io
import zipfile
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException  # type: ignore[import-untyped]  # it has no types
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # it has no types

from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import Composer, one_line

PARSER = "opendocument-1"
_ODF = "{urn:oasis:names:tc:opendocument:xmlns:"
_PAGE = _ODF + "drawing:1.0}page"
_FRAME = _ODF + "drawing:1.0}frame"
_PARAGRAPH = (_ODF + "text:1.0}p", _ODF + "text:1.0}h")
_LIST_ITEM = _ODF + "text:1.0}list-item"
_TABLE = _ODF + "table:1.0}table"
_ROW = _ODF + "table:1.0}table-row"
_CELL = _ODF + "table:1.0}table-cell"
_NOTES = _ODF + "presentation:1.0}notes"
_CLASS = _ODF + "presentation:1.0}class"
_DEPTH = 64
_CAP = 64 << 20


def compose(data: bytes, out: Composer) -> str:
    """Adds a heading and blocks a slide. Raises Refused UNPARSEABLE."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("content.xml") as member:
            content = member.read(_CAP)
        root = fromstring(content)
    except (zipfile.BadZipFile, KeyError, ParseError, DefusedXmlException, OSError, EOFError) as error:
        raise Refused(Reason.UNPARSEABLE, "the presentation is damaged; save it anew and send it again") from error
    for number, page in enumerate(root.iter(_PAGE), start=1):
        out.page = number
        for shape in page:
            if shape.tag == _NOTES:
                continue
            if shape.tag == _FRAME and shape.get(_CLASS) == "title":
                out.heading(_text(shape), 2)
            else:
                _blocks(shape, out, item=False, depth=0)
    return PARSER


def _blocks(element: Element, out: Composer, *, item: bool, depth: int) -> None:
    if depth > _DEPTH:
        return
    if element.tag in _PARAGRAPH:
        text = one_line("".join(element.itertext()))
        (out.item if item else out.prose)(f"- {text}" if item and text else text)
    elif element.tag == _TABLE:
        out.table([[_text(cell) for cell in row.iter(_CELL)] for row in element.iter(_ROW)])
    else:
        for child in element:
            _blocks(child, out, item=item or child.tag == _LIST_ITEM, depth=depth + 1)


def _text(element: Element) -> str:
    return one_line(" ".join("".join(p.itertext()) for tag in _PARAGRAPH for p in element.iter(tag)))
