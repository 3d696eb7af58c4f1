"""PDF to blocks: text by page through PDFium, paragraphs from line gaps, headings from font sizes; pypdf behind it."""

from __future__ import annotations

import ctypes
import io
import re
from collections import Counter
from dataclasses import dataclass

import pypdfium2  # type: ignore[import-untyped]  # it has no types
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]  # it has no types

from anabranch_ingestion.adapters.parsing.sniffing import encrypted
from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import Composer, one_line

_HEADING_CHARS = 160
_HEADING_LEVELS = 3
_ITEM = re.compile(r"^(?:[-\u2022\u2023\u25e6\u25aa\u2013*]|\(?\d{1,3}[.)])\s+\S")
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad\x02\ufffe]\n(?=[^\W\d_])")


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float
    top: float
    bottom: float


def compose(data: bytes, out: Composer, *, max_pages: int) -> str:
    """Adds the document's blocks page by page; returns the parser's name. Raises Refused: ENCRYPTED, UNPARSEABLE."""
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise encrypted() from error
        return _fall_back(data, out, max_pages)
    pages = min(len(document), max_pages)
    lines = [_lines(document, number) for number in range(pages)]
    body, headings = _sizes([line for page in lines for line in page])
    for number, page in enumerate(lines, start=1):
        out.page = number
        _page(page, out, body, headings)
    try:
        out.title = document.get_metadata_value("Title") or ""
    except pypdfium2.PdfiumError:
        out.title = ""
    document.close()
    return _fall_back(data, out, max_pages) if out.empty else f"pypdfium2-{pypdfium2.PYPDFIUM_INFO}"


def _fall_back(data: bytes, out: Composer, max_pages: int) -> str:
    import pypdf  # noqa: PLC0415  200 ms, and seldom needed
    import pypdf.errors  # noqa: PLC0415  as above

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise encrypted()
        for number, page in enumerate(reader.pages[:max_pages], start=1):
            out.page = number
            text = page.extract_text()
            for paragraph in re.split(r"\n\s*\n", _HYPHEN.sub("", text)):
                out.prose(paragraph)
    except (pypdf.errors.PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if "encrypt" in str(error).lower() or "password" in str(error).lower():
            raise encrypted() from error
        raise Refused(Reason.UNPARSEABLE, "the PDF is damaged; export or print it to PDF again") from error
    return f"pypdf-{pypdf.__version__}"


def _lines(document: pypdfium2.PdfDocument, number: int) -> list[_Line]:
    try:
        page = document[number]
        textpage = page.get_textpage()
    except pypdfium2.PdfiumError:
        return []
    found = []
    count = textpage.count_chars()
    raw = textpage.raw
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    # Read by character, so that sizes and boxes are those of the characters of the line.
    text = textpage.get_text_range(errors="replace") if count > 0 else ""
    aligned = len(text) == count
    position = 0
    for part in text.split("\n"):
        line = part.strip("\r ")
        size = up = down = 0.0
        if line and aligned:
            middle = position + part.index(line[0]) + len(line) // 2
            size = round(pdfium.FPDFText_GetFontSize(raw, middle), 1)
            if pdfium.FPDFText_GetCharBox(raw, middle, left, right, bottom, top):
                up, down = top.value, bottom.value
                # Type 3 and scaled fonts report a size of 1: the height of the glyph is the better measure.
                size = size if size > 1.5 else round((up - down) * 1.3)  # noqa: PLR2004  no print is that small
        found.append(_Line(line, size, up, down))
        position += len(part) + 1
    textpage.close()
    page.close()
    return found


def _sizes(lines: list[_Line]) -> tuple[float, dict[float, int]]:
    """The body's font size, and the level of each size that is clearly larger."""
    weights: Counter[float] = Counter()
    for line in lines:
        if line.size:
            weights[line.size] += len(line.text)
    if not weights:
        return 0.0, {}
    body = weights.most_common(1)[0][0]
    larger = sorted((size for size in weights if size >= body * 1.15), reverse=True)
    return body, {size: min(rank, _HEADING_LEVELS) for rank, size in enumerate(larger, start=1)}


def _page(lines: list[_Line], out: Composer, body: float, headings: dict[float, int]) -> None:
    paragraph: list[_Line] = []

    def flush() -> None:
        if not paragraph:
            return
        level = headings.get(paragraph[0].size, 0)
        text = _HYPHEN.sub("", "\n".join(line.text for line in paragraph))
        short = len(text) <= _HEADING_CHARS and any(c.isalpha() for c in text)
        if level and short and not text.rstrip().endswith((".", ",", ";")):
            out.heading(one_line(text), level)
        elif _ITEM.match(text):
            out.item(text)
        else:
            out.prose(text)
        paragraph.clear()

    widest = max((len(line.text) for line in lines), default=0)
    for line in lines:
        if not line.text:
            flush()
            continue
        if paragraph and _breaks(paragraph[-1], line, body, widest):
            flush()
        paragraph.append(line)
    flush()


def _breaks(above: _Line, line: _Line, body: float, widest: int) -> bool:
    if above.size != line.size and abs(above.size - line.size) > 0.12 * max(body, 1):
        return True
    if _ITEM.match(line.text):
        return True
    height = max(above.top - above.bottom, line.top - line.bottom, line.size * 0.7)
    if above.top and line.top and height > 0:
        gap = above.bottom - line.top
        # A jump upwards is a new column, which a paragraph may well cross.
        if 0.95 * height < gap:
            return True
    ends = above.text.endswith((".", "!", "?", ":"))
    return ends and len(above.text) < 0.7 * widest
