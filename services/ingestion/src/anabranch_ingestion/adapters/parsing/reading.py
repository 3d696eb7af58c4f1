"""From a body to its extracted text: sniff, choose readers by format, fall back, refuse clearly.

Everything here may meet hostile bytes. It runs inside a worker process (`worker`), except for `is_simple` bodies, which
only touch code of this package and the standard library, in time linear in their size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from anabranch_faults import TooLarge
from anabranch_ingestion.adapters.parsing import formats as f
from anabranch_ingestion.adapters.parsing import markdown, records, rst, subtitles
from anabranch_ingestion.adapters.parsing.archives import ArchiveLimits, check
from anabranch_ingestion.adapters.parsing.sniffing import Sniffed, sniff, sniff_text
from anabranch_ingestion.application.ports import Body
from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import Block, BlockKind, Composer, Extracted, clean, paragraphs

READERS = "readers-1"
"""Changes when the same body would give another text: part of a document's fingerprint."""

_ZIPPED = frozenset((f.DOCX, f.PPTX, f.XLSX, f.ODT, f.ODS, f.ODP, f.EPUB, f.PAGES))
_SHEETS = frozenset((f.XLSX, f.XLS))
_SIMPLE = frozenset((f.TEXT, f.MARKDOWN, f.RST, f.CSV, f.TSV, f.VTT, f.SRT))
_MANY_PAGES = 5_000
_JATS = re.compile(r"JATS|//NLM//DTD|<front>|<journal-meta>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """Caps on what a body may become."""

    text_bytes: int = 20 << 20
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)
    pages: int = _MANY_PAGES


def read(body: Body, limits: ReadLimits) -> Extracted:
    """The body's text and structure. Raises Refused; any other exception is the reader's failure on this body."""
    hints = {"content_type": body.content_type, "filename": body.filename}
    try:
        sniffed = sniff(body.data, **hints) if body.text is None else sniff_text(body.text, **hints)
        extracted = _read(body, sniffed, limits)
    except TooLarge as error:
        raise Refused(Reason.TOO_LARGE, str(error)) from error
    if not extracted.text.strip():
        raise Refused(Reason.NO_TEXT, _no_text(sniffed.content_type))
    return extracted


def is_simple(body: Body, limit: int) -> str | None:
    """The text of a short body that needs no isolation; None for all others. Microseconds."""
    if body.text is not None:
        if len(body.text) > limit:
            return None
        text = body.text
    else:
        if len(body.data) > limit or b"\x00" in body.data:
            return None
        try:
            text = body.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None
    try:
        kind = sniff_text(text, content_type=body.content_type, filename=body.filename).content_type
        if body.text is None:
            kind = sniff(body.data, content_type=body.content_type, filename=body.filename).content_type
    except Refused:
        # Refusing costs nothing: the caller reads it in place and gets the same refusal.
        return text
    if kind not in _SIMPLE or (kind == f.MARKDOWN and markdown.holds_markup(text)):
        return None
    return text


def _read(body: Body, sniffed: Sniffed, limits: ReadLimits) -> Extracted:
    kind = sniffed.content_type
    if kind == f.TEXT:
        return plain(sniffed.text or "", limits)
    if kind in _ZIPPED:
        check(body.data, limits.archive)
    out = Composer(limit=limits.text_bytes)
    parser = _TEXTS[kind](sniffed.text or "", out) if kind in _TEXTS else _binary(body, sniffed, out, limits)
    return out.build(parser=parser, content_type=kind)


def plain(text: str, limits: ReadLimits) -> Extracted:
    """A plain text as it stands: paragraphs are what blank lines part."""
    text = clean(text)
    if len(text.encode("utf-8")) > limits.text_bytes:
        raise Refused(Reason.TOO_LARGE, f"the text is longer than {limits.text_bytes} bytes; send it in parts")
    blocks = tuple(Block(kind=BlockKind.PROSE, start=start, end=end) for start, end in paragraphs(text))
    return Extracted(text=text, blocks=blocks, parser="plain-1", content_type=f.TEXT)


def _binary(body: Body, sniffed: Sniffed, out: Composer, limits: ReadLimits) -> str:
    # Native readers are imported where they are used: a process that only reads text never loads them.
    kind, data = sniffed.content_type, body.data if body.text is None else body.text.encode("utf-8", "replace")
    if kind == f.HTML:
        from anabranch_ingestion.adapters.parsing import hypertext  # noqa: PLC0415  as said

        hypertext.compose(sniffed.text or "", out)
        return "lexbor-1"
    if kind == f.PDF:
        from anabranch_ingestion.adapters.parsing import pdf  # noqa: PLC0415  as said

        return pdf.compose(data, out, max_pages=limits.pages)
    if kind in (f.EML, f.MBOX):
        from anabranch_ingestion.adapters.parsing import mail  # noqa: PLC0415  as said

        return (mail.compose if kind == f.EML else mail.compose_box)(data, out)
    if kind == f.ODP:
        from anabranch_ingestion.adapters.parsing import slides  # noqa: PLC0415  as said

        parser = slides.compose(data, out)
        # Slides that say nothing themselves may show their master's text.
        return parser if not out.empty else _native(body, kind, out, limits)
    if kind == f.XML:
        return _xml(sniffed, out, limits)
    return _native(body, kind, out, limits)


def _xml(sniffed: Sniffed, out: Composer, limits: ReadLimits) -> str:
    """JATS has a reader that knows it; everything else is read by structure."""
    from anabranch_ingestion.adapters.parsing import markup  # noqa: PLC0415  native code, see _binary

    text = sniffed.text or ""
    # An encoding declaration no longer holds once decoded.
    data = text.encode("utf-8", "replace")
    if text.lstrip()[:5] == "<?xml":
        data = text[text.find("?>") + 2 :].lstrip().encode("utf-8", "replace")
    if _JATS.search(text, 0, 4096):
        from anabranch_ingestion.adapters.parsing import native  # noqa: PLC0415  as above

        return native.compose(data, out, content_type="application/x-jats+xml", filename="", limit=limits.text_bytes)
    return markup.compose(data, out)


def _native(body: Body, kind: str, out: Composer, limits: ReadLimits) -> str:
    """Xberg first; for workbooks it leaves empty or cannot open, openpyxl and xlrd."""
    from anabranch_ingestion.adapters.parsing import native  # noqa: PLC0415  native code, see _binary

    data = body.data if body.text is None else body.text.encode("utf-8", "replace")
    problem: Refused | None = None
    inner = Composer(limit=limits.text_bytes)
    try:
        parser = native.compose(data, inner, content_type=kind, filename=body.filename, limit=limits.text_bytes)
        if not inner.barren or kind not in _SHEETS:
            out.take(inner)
            return parser
    except Refused as refused:
        if refused.why is Reason.ENCRYPTED or kind not in _SHEETS:
            raise
        problem = refused
    return _workbook(data, kind, out, problem)


def _workbook(data: bytes, kind: str, out: Composer, problem: Refused | None) -> str:
    from anabranch_ingestion.adapters.parsing import sheets  # noqa: PLC0415  native code, see _binary

    try:
        return (sheets.compose if kind == f.XLSX else sheets.compose_old)(data, out)
    except (TooLarge, Refused, MemoryError):
        raise
    except Exception as error:  # these libraries raise anything on odd files; xberg's finding stands
        raise problem or Refused(
            Reason.UNPARSEABLE, "the workbook is damaged; save it anew and send it again"
        ) from error


def _no_text(kind: str) -> str:
    if kind == f.PDF:
        return "the PDF holds no text (a scan?); run text recognition on it and send it again"
    return "there is no text in the document"


def _markdown(text: str, out: Composer) -> str:
    markdown.compose(text, out)
    return "markdown-1"


def _rst(text: str, out: Composer) -> str:
    rst.compose(text, out)
    return "rst-1"


def _csv(text: str, out: Composer) -> str:
    records.compose_csv(text, out)
    return "csv-1"


def _tsv(text: str, out: Composer) -> str:
    records.compose_csv(text, out, delimiter="\t")
    return "csv-1"


def _json(text: str, out: Composer) -> str:
    records.compose_json(text, out)
    return "json-1"


def _jsonl(text: str, out: Composer) -> str:
    records.compose_jsonl(text, out)
    return "json-1"


def _subtitles(text: str, out: Composer) -> str:
    subtitles.compose(text, out)
    return "subtitles-1"


_TEXTS: dict[str, Callable[[str, Composer], str]] = {
    f.MARKDOWN: _markdown,
    f.RST: _rst,
    f.CSV: _csv,
    f.TSV: _tsv,
    f.JSON: _json,
    f.JSONL: _jsonl,
    f.VTT: _subtitles,
    f.SRT: _subtitles,
}
