"""Bytes to characters: byte order marks, UTF-8, then a guess for what older systems wrote."""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"(?:charset|encoding)[ \t]*=[ \t]*[\"']?([A-Za-z][A-Za-z0-9_.:-]{2,30})", re.IGNORECASE)
_SAMPLE = 65_536
_CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\r\f\x1b\x0b")


def decode(data: bytes) -> str | None:
    """The text these bytes are, or None when they are not text. Never raises."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, errors="replace")
            # A mark alone does not make a text of it.
            return text if text.count("\ufffd") * 50 <= len(text) else None
    if b"\x00" not in data:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return _guess(data)
    return _sixteen_bits(data)


def _guess(data: bytes) -> str | None:
    sample = data[:_SAMPLE]
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if controls * 100 > len(sample):
        return None
    # UTF-8 with a few broken bytes is far likelier than a code page that happens to look like it.
    lenient = data.decode("utf-8", errors="replace")
    broken = lenient.count("\ufffd")
    foreign = sum(1 for character in lenient[:_SAMPLE] if character > "\x7f" and character != "\ufffd")
    if foreign > 8 * broken:
        return lenient
    declared = _DECLARED.search(data, 0, 2048)
    if declared is not None:
        # Not UTF-8, and it says itself what it is.
        try:
            return data.decode(declared.group(1).decode("ascii"))
        except (LookupError, UnicodeDecodeError):
            pass
    best = from_bytes(sample, steps=5, chunk_size=512).best()
    encoding = best.encoding if best is not None else "cp1252"
    # Short texts tell code pages apart badly; Windows Latin 1 is the likely one where any would do.
    if len(sample) < 512 and encoding not in {"utf_8", "ascii"}:  # noqa: PLR2004  characters a guess can rest on
        encoding = _western(sample) or encoding
    try:
        return data.decode(encoding, errors="replace")
    except LookupError:
        return data.decode("cp1252", errors="replace")


def _western(sample: bytes) -> str | None:
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return None
    odd = [c for c in text if c > "\x7f"]
    return "cp1252" if odd and len(odd) * 5 < len(text) else None


def _sixteen_bits(data: bytes) -> str | None:
    """UTF-16 without a mark: nearly every second byte is zero, always on the same side."""
    sample = data[: _SAMPLE & ~1]
    if len(sample) < 4:  # noqa: PLR2004  two characters
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > half * 0.7 and even < half * 0.05:
        return data.decode("utf-16-le", errors="replace")
    if even > half * 0.7 and odd < half * 0.05:
        return data.decode("utf-16-be", errors="replace")
    return None
