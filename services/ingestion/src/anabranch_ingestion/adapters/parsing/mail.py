"""Mail (one message or a mailbox) through the standard library: headers, then the best readable part."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.message import EmailMessage

from anabranch_ingestion.adapters.parsing import hypertext
from anabranch_ingestion.adapters.parsing.decoding import decode
from anabranch_ingestion.domain.text import Composer, clean, one_line, paragraphs

_FROM = re.compile(rb"(?:\A\s*|(?<=\n\n)|(?<=\n\r\n))From [^\r\n]*\r?\n")
_HEADERS = ("Subject", "From", "To", "Cc", "Date")
_MESSAGES = 10_000
_PARTS = 200
PARSER = "email-1"


def compose(data: bytes, out: Composer) -> str:
    """Adds one message."""
    _message(data, out, level=1)
    return PARSER


def compose_box(data: bytes, out: Composer) -> str:
    """Adds each message of a mailbox under a heading of its own."""
    marks = [(match.start(), match.end()) for match in _FROM.finditer(data)][:_MESSAGES]
    ends = [start for start, _ in marks[1:]] + [len(data)]
    for (_, start), end in zip(marks, ends, strict=True):
        _message(data[start:end], out, level=1)
    return PARSER


def _message(data: bytes, out: Composer, *, level: int) -> None:
    message = message_from_bytes(data, policy=policy.default)
    subject = _header(message, "Subject")
    out.title = out.title or subject
    if subject:
        out.heading(subject, level)
    for name in _HEADERS[1:]:
        value = _header(message, name)
        if value:
            out.item(f"{name}: {value}")
    for position, part in enumerate(message.walk()):
        if position >= _PARTS:
            break
        _part(message, part, out)


def _part(message: EmailMessage, part: EmailMessage, out: Composer) -> None:
    if part.is_multipart():
        if part is not message and part.get_content_type() == "message/rfc822":
            return
        return
    kind = part.get_content_type()
    if part.get_content_disposition() == "attachment":
        name = part.get_filename()
        if name:
            out.item(f"Attachment: {one_line(name)}")
        if kind not in ("text/plain", "text/html"):
            return
    if kind == "text/plain":
        text = clean(_text(part))
        for start, end in paragraphs(text):
            out.prose(text[start:end])
    elif kind == "text/html" and not _has_plain(message):
        inner = out.title
        hypertext.compose(_text(part), out)
        out.title = inner or out.title


def _has_plain(message: EmailMessage) -> bool:
    return any(
        part.get_content_type() == "text/plain"
        and part.get_content_disposition() != "attachment"
        and _text(part).strip()
        for part in message.walk()
        if not part.is_multipart()
    )


def _text(part: EmailMessage) -> str:
    raw = part.get_payload(decode=True)
    if not isinstance(raw, bytes):
        return ""
    charset = part.get_content_charset()
    if charset:
        try:
            return raw.decode(charset, errors="replace")
        except LookupError:
            pass
    return decode(raw) or ""


def _header(message: EmailMessage, name: str) -> str:
    try:
        value = message.get(name, "")
    except (ValueError, IndexError, TypeError, AttributeError):
        # Malformed headers trip the standard library's parser now and then.
        return ""
    return one_line(str(value))
