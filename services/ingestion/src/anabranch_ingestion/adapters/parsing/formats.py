"""The media types ingestion can read, and what hints may say about text that bytes alone cannot tell apart."""

from __future__ import annotations

from typing import Final

TEXT: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
RST: Final = "text/x-rst"
ASCIIDOC: Final = "text/asciidoc"
HTML: Final = "text/html"
CSV: Final = "text/csv"
TSV: Final = "text/tab-separated-values"
JSON: Final = "application/json"
JSONL: Final = "application/x-ndjson"
XML: Final = "application/xml"
VTT: Final = "text/vtt"
SRT: Final = "application/x-subrip"
EML: Final = "message/rfc822"
MBOX: Final = "application/mbox"
RTF: Final = "application/rtf"
PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT: Final = "application/vnd.oasis.opendocument.text"
ODS: Final = "application/vnd.oasis.opendocument.spreadsheet"
ODP: Final = "application/vnd.oasis.opendocument.presentation"
EPUB: Final = "application/epub+zip"
DOC: Final = "application/msword"
XLS: Final = "application/vnd.ms-excel"
PPT: Final = "application/vnd.ms-powerpoint"
MSG: Final = "application/vnd.ms-outlook"
PAGES: Final = "application/vnd.apple.pages"

# What a hint may choose between, once the bytes are known to be text.
HINTED_EXTENSIONS: Final = {
    "txt": TEXT, "text": TEXT, "log": TEXT,
    "md": MARKDOWN, "markdown": MARKDOWN, "mdown": MARKDOWN, "mkd": MARKDOWN,
    "rst": RST, "rest": RST,
    "adoc": ASCIIDOC, "asciidoc": ASCIIDOC, "asc": ASCIIDOC,
    "html": HTML, "htm": HTML, "xhtml": HTML,
    "csv": CSV, "tsv": TSV, "tab": TSV,
    "json": JSON, "jsonl": JSONL, "ndjson": JSONL,
    "xml": XML, "nxml": XML,
    "vtt": VTT, "srt": SRT,
    "eml": EML, "mbox": MBOX,
}  # fmt: skip
HINTED_TYPES: Final = {
    **{name: name for name in (TEXT, MARKDOWN, RST, ASCIIDOC, HTML, CSV, TSV, JSON, JSONL, XML, VTT, SRT, EML, MBOX)},
    "text/x-markdown": MARKDOWN,
    "text/prs.fallenstein.rst": RST,
    "text/x-asciidoc": ASCIIDOC,
    "application/xhtml+xml": HTML,
    "application/csv": CSV,
    "application/jsonl": JSONL,
    "application/x-jsonlines": JSONL,
    "text/xml": XML,
    "text/json": JSON,
}
# Short names for sentences.
NAMES: Final = {
    "application/zip": "a ZIP archive", "application/gzip": "a gzip archive", "application/x-tar": "a tar archive",
    "image/png": "a PNG image", "image/jpeg": "a JPEG image", "image/gif": "a GIF image", "image/tiff": "a TIFF image",
    "image/bmp": "a BMP image", "application/onenote": "a OneNote file", "image/webp": "a WebP image",
}  # fmt: skip
