"""What a body is, from its bytes. Hints decide only between kinds of text."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass

from anabranch_ingestion.adapters.parsing import formats as f
from anabranch_ingestion.adapters.parsing.decoding import decode
from anabranch_ingestion.domain.refusals import Reason, Refused

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEAD = 4096
_BINARY = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x7fELF", "application/x-elf"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "application/onenote"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"OggS", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
)
_BIFF = (b"\x09\x08\x10\x00", b"\x09\x08\x08\x00", b"\x09\x04\x06\x00", b"\x09\x02\x06\x00", b"\x09\x00\x04\x00")
_ENTITY = re.compile(r"^\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(!doctype\s+)?([\w:.-]+)", re.DOTALL | re.IGNORECASE)
_HTML_TAG = re.compile(r"<(?:html|head|body|div|p|h[1-6]|table|ul|ol|span|br|a\s)[\s>/]", re.IGNORECASE)
_HEADER = re.compile(r"^[A-Za-z][A-Za-z0-9-]{1,60}:[ \t]?\S")
_MAIL = re.compile(
    r"^(?:from|to|subject|date|message-id|received|return-path|mime-version|delivered-to|x-[\w-]+):", re.IGNORECASE
)
_MARKDOWN = re.compile(r"^#{1,6}[ \t]+\S|^(?:```|~~~)|^[-*][ \t]+\[[^\]\n]*\]\(|\]\(https?://[^)\s]+\)", re.MULTILINE)
_RST = re.compile(r"^\.\. [\w-]+::|^[^\s].*\n(=|-|~|\^){4,}[ \t]*$|:[a-z]+:`[^`\n]+`", re.MULTILINE)
_SRT = re.compile(r"^\s*1\s*\n\d\d:\d\d:\d\d,\d{3} --> ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sniffed:
    """A media type this service reads; `text` holds the decoded characters when the bytes are text."""

    content_type: str
    text: str | None = None


def sniff(data: bytes, *, content_type: str = "", filename: str = "") -> Sniffed:
    """The body's type. Raises Refused: UNSUPPORTED_FORMAT, NO_TEXT when empty, ENCRYPTED."""
    if not data.strip(b"\x00 \t\r\n"):
        raise Refused(Reason.NO_TEXT, "the body is empty")
    known = _binary(data)
    if known is not None:
        return Sniffed(content_type=known)
    text = decode(data)
    if text is None:
        raise _unsupported(_name_unknown(data))
    return sniff_text(text, content_type=content_type, filename=filename)


def sniff_text(text: str, *, content_type: str = "", filename: str = "") -> Sniffed:
    """Which kind of text this is: markup that can be nothing else, then the hints, then plain text or Markdown."""
    if not text.strip():
        raise Refused(Reason.NO_TEXT, "the body is blank")
    head = text[:_HEAD].lstrip("\ufeff")
    certain = _certain(head)
    hint = _hint(content_type, filename)
    if certain is not None and not (certain == f.XML and hint == f.HTML):
        return Sniffed(content_type=certain, text=text)
    if hint is not None and _plausible(hint, head):
        return Sniffed(content_type=hint, text=text)
    return Sniffed(content_type=_likely(text, head), text=text)


def _binary(data: bytes) -> str | None:  # noqa: C901  one step a kind of file
    if b"%PDF-" in data[:1024]:
        return f.PDF
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zipped(data)
    if data.startswith(_OLE):
        return _compound(data)
    if data.lstrip()[:5] == b"{\\rtf":
        return f.RTF
    if data.startswith(_BIFF):
        return f.XLS
    for magic, name in _BINARY:
        if data.startswith(magic):
            raise _unsupported(name)
    if data[:2] == b"BM" and int.from_bytes(data[2:6], "little") == len(data):
        raise _unsupported("image/bmp")
    if data[257:262] == b"ustar":
        raise _unsupported("application/x-tar")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        raise _unsupported("image/webp")
    return None


def _zipped(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            declared = _declared(archive, names)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError, OverflowError):
        # Cut off: the names of the first members may still say what it was.
        names = sorted({name.decode() for name in re.findall(rb"(?:word|ppt|xl)/", data[:65_536])})
        declared = None
        if not names:
            raise Refused(Reason.UNPARSEABLE, "the ZIP container is damaged; send the file again") from None
    if declared is not None:
        return declared
    for folder, kind in (("word/", f.DOCX), ("ppt/", f.PPTX), ("xl/", f.XLSX)):
        if any(name.startswith(folder) for name in names):
            return kind
    if any(name.startswith("Index/") or name.endswith((".iwa", "index.apxl", "index.xml")) for name in names):
        return f.PAGES
    raise _unsupported("application/zip")


def _declared(archive: zipfile.ZipFile, names: list[str]) -> str | None:
    """OpenDocument and EPUB carry their type in a member of its own."""
    if "mimetype" not in names or archive.getinfo("mimetype").file_size > 256:  # noqa: PLR2004  a media type is short
        return None
    kind = archive.read("mimetype").decode("ascii", errors="replace").strip()
    for known in (f.ODT, f.ODS, f.ODP, f.EPUB):
        if kind.removesuffix("-template") == known:
            return known
    return None


def _compound(data: bytes) -> str:
    def holds(name: str) -> bool:
        return name.encode("utf-16-le") in data

    if holds("EncryptedPackage") or holds("EncryptionInfo"):
        raise encrypted()
    for stream, kind in (
        ("__substg1.0_", f.MSG),
        ("WordDocument", f.DOC),
        ("PowerPoint Document", f.PPT),
        ("Workbook", f.XLS),
        ("Book", f.XLS),
    ):
        if holds(stream):
            return kind
    raise _unsupported("application/x-ole-storage")


def _certain(head: str) -> str | None:  # noqa: PLR0911  one return a case
    stripped = head.lstrip()
    if stripped.startswith("WEBVTT"):
        return f.VTT
    if _SRT.match(stripped):
        return f.SRT
    if stripped.startswith("From ") and "\n" in stripped and _HEADER.match(stripped.split("\n", 2)[1]):
        return f.MBOX
    if stripped.startswith("<"):
        match = _ENTITY.match(stripped)
        if match:
            root = match.group(2).lower()
            if root == "html":
                return f.HTML
            if stripped.startswith("<?xml") or (match.group(1) and root != "html"):
                return f.XML
    if _mail(stripped):
        return f.EML
    return None


def _mail(head: str) -> bool:
    """Three header lines of which two are a mail's own."""
    seen = mail = 0
    for line in head.splitlines()[:40]:
        if not line.strip():
            break
        if line[0] in " \t" and seen:
            continue
        if not _HEADER.match(line):
            return False
        seen += 1
        mail += bool(_MAIL.match(line))
    return seen >= 3 and mail >= 2  # noqa: PLR2004  as said


def _hint(content_type: str, filename: str) -> str | None:
    extension = filename.rsplit(".", 1)[-1].lower() if "." in filename else ""
    by_name = f.HINTED_EXTENSIONS.get(extension)
    by_type = f.HINTED_TYPES.get(content_type.split(";", 1)[0].strip().lower())
    # "text/plain" is what senders say who do not know; a telling file name beats it.
    if by_type is None or (by_type == f.TEXT and by_name is not None):
        return by_name
    return by_type


def _plausible(hint: str, head: str) -> bool:
    stripped = head.lstrip()
    if hint in (f.JSON, f.JSONL):
        return stripped[:1] in '{["-0123456789tfn'
    if hint == f.XML:
        return stripped[:1] == "<"
    if hint == f.VTT:
        return False
    if hint == f.MBOX:
        return stripped.startswith("From ")
    if hint == f.EML:
        return bool(_HEADER.match(stripped))
    return True


def _likely(text: str, head: str) -> str:
    stripped = head.lstrip()
    if stripped[:1] in "{[" and text.rstrip()[-1:] in "}]":
        first = stripped.split("\n", 1)[0].rstrip()
        return f.JSONL if "\n" in text.strip() and first[:1] == "{" and first[-1:] == "}" else f.JSON
    if stripped.startswith("<") and len(_HTML_TAG.findall(head)) > 1:
        return f.HTML
    if _RST.search(head) and not re.search(r"^#{1,6} \S", head, re.MULTILINE):
        return f.RST
    if len(_MARKDOWN.findall(head)) > 1 or head.startswith("# "):
        return f.MARKDOWN
    return f.TEXT


def encrypted() -> Refused:
    """The refusal of what only its owner can open."""
    return Refused(Reason.ENCRYPTED, "the document is encrypted; send it without a password")


def _unsupported(kind: str) -> Refused:
    name = f.NAMES.get(kind, kind)
    return Refused(Reason.UNSUPPORTED_FORMAT, f"the body is {name}, which ingestion does not read")


def _name_unknown(data: bytes) -> str:
    import puremagic  # noqa: PLC0415  200 ms and used only to name what is refused

    try:
        found = puremagic.from_string(data[:_HEAD], mime=True)
    except (puremagic.PureError, ValueError):
        found = ""
    return found or "binary data of no known kind"
