"""What xberg (a Rust core, MIT) reads: office formats old and new, e-books, RTF, AsciiDoc, Outlook mail, JATS.

xberg renders Markdown with page marks, which the Markdown reader turns into blocks. No OCR, no cache, no network.
"""

from __future__ import annotations

import asyncio
import re
from importlib.metadata import version

import xberg

from anabranch_ingestion.adapters.parsing import formats, markdown
from anabranch_ingestion.adapters.parsing.sniffing import encrypted
from anabranch_ingestion.domain.refusals import Reason, Refused
from anabranch_ingestion.domain.text import Composer

_MARK = re.compile(r"^\ue010(\d{1,6})\ue011$")
_MARKS = re.compile("\ue010\\d{1,6}\ue011")
_COMMENTS = re.compile(r"\[cmt:\d+\]|^\[\^cmt\d+\]:[^\n]*\n(?:    [^\n]*\n?)*", re.MULTILINE)
_GUESSED = frozenset((formats.PAGES,))


def name() -> str:
    """The parser's name and version, for provenance."""
    return f"xberg-{version('xberg')}"


def extract(data: bytes, *, content_type: str, filename: str, limit: int) -> tuple[str, str]:
    """Markdown with page marks, and the title. Raises Refused: ENCRYPTED, UNPARSEABLE, TOO_LARGE."""
    config = xberg.ExtractionConfig(
        use_cache=False,
        disable_ocr=True,
        enable_quality_processing=False,
        output_format="markdown",
        extraction_timeout_secs=None,
        max_archive_depth=0,
        pages=xberg.PageConfig(insert_page_markers=True, marker_format="\n\n\ue010{page_num}\ue011\n\n"),
        concurrency=xberg.ConcurrencyConfig(max_threads=1),
        security_limits=xberg.SecurityLimits(
            max_archive_size=256 << 20,
            max_compression_ratio=1000,
            max_content_size=limit * 4,
            max_entity_length=limit,
            max_nesting_depth=256,
            max_xml_depth=256,
        ),
    )
    kind = None if content_type in _GUESSED else content_type
    source = xberg.ExtractInput(kind="bytes", bytes=data, mime_type=kind, filename=filename or None)
    try:
        result = asyncio.run(xberg.extract(source, config))
    except (RuntimeError, ValueError, OSError) as error:
        raise _refusal(str(error)) from error
    if result.errors:
        raise _refusal(result.errors[0].message)
    if not result.results:
        return "", ""
    document = result.results[0]
    return document.content, document.metadata.title or ""


def compose(data: bytes, out: Composer, *, content_type: str, filename: str, limit: int) -> str:
    """Adds the document's blocks; returns the parser's name."""
    text, title = extract(data, content_type=content_type, filename=filename, limit=limit)
    # A mark at the very start or in the middle of a line still begins a page.
    text = _MARKS.sub(lambda m: f"\n\n{m.group()}\n\n", text)
    if "[cmt:" in text:
        # What reviewers wrote in the margin is not the document's text.
        text = _COMMENTS.sub("", text)
    markdown.compose(text, out, page_mark=_page)
    out.title = out.title or title
    return name()


def _page(line: str) -> int | None:
    mark = _MARK.match(line.strip())
    return int(mark.group(1)) if mark else None


def _refusal(message: str) -> Refused:
    lowered = message.lower()
    if "password" in lowered or "encrypt" in lowered:
        return encrypted()
    if "security" in lowered or "bomb" in lowered or "exceed" in lowered:
        return Refused(Reason.TOO_LARGE, "the file unpacks to more than ingestion allows")
    return Refused(
        Reason.UNPARSEABLE, "the file is damaged or not what it says; open it, save it anew and send it again"
    )
