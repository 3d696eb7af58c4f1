"""Texts within a text: encoded, spelt apart, in figures for letters, backwards; bounded in depth and in size."""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import numpy as np

from anabranch_guardrails.adapters.normal.folding import Folded, Places, fold
from anabranch_guardrails.adapters.normal.spelling import respelt, turned
from anabranch_guardrails.adapters.normal.words import Words, known_words

__all__ = ["DEPTH", "LOOKED_AT", "Layer", "Unfolded", "unfold"]

LOOKED_AT: Final = 32_768
"""Characters of a text that are looked at, at most: its beginning, its end, and pieces of what lies between."""
DEPTH: Final = 64
_BUDGET: Final = 6
"""All layers together hold at most so many times the characters looked at."""
_PIECES: Final = 32
_SMALLEST: Final = 8
"""Bytes; what decodes to less says nothing."""
_READABLE: Final = 0.9
_SEGMENTS: Final = 64
"""Encoded places decoded in one layer."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}(?:\r?\n[A-Za-z0-9+/_-]{12,})*={0,2}")
_BASE32: Final = re.compile(r"[A-Z2-7]{24,}={0,6}")
_HEX: Final = re.compile(r"(?:(?:\\x|0x|%u00|\\u00)?[0-9a-fA-F]{2}[\s,:;-]{0,2}){8,}")
_BITS: Final = re.compile(r"(?:[01]{8}[ ,]?){6,}")
_PERCENT: Final = re.compile(r"%(?:25)*[0-9a-fA-F]{2}")
_ENTITY: Final = re.compile(r"&(?:#\d{2,6}|#[xX][0-9a-fA-F]{2,5}|lt|gt|amp|quot);")
_NOT_HEX: Final = re.compile(r"\\x|0x|%u00|\\u00|[^0-9a-fA-F]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A reading of the text, or of a part; `how` is empty for the text as it looks."""

    folded: Folded
    how: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfolded:
    """All readings, the plain one first; `seen` of `length` characters were looked at; `cut`: a bound was reached."""

    layers: tuple[Layer, ...]
    seen: int
    length: int
    cut: bool


def sampled(text: str, limit: int) -> tuple[str, Places | None]:
    """As much of the text as is looked at, and where each character stood (None: at its own place)."""
    if len(text) <= limit:
        return text, None
    half, quarter = limit // 2, limit // 4
    size = quarter // _PIECES
    gap = (len(text) - half - quarter) // _PIECES
    parts = [(0, half)]
    parts += [(half + gap * piece, half + gap * piece + size) for piece in range(_PIECES)]
    parts.append((len(text) - quarter, len(text)))
    places = np.concatenate([np.arange(start, end, dtype=np.int32) for start, end in parts])
    return "".join(text[start:end] for start, end in parts), places


def unfold(text: str, *, limit: int = LOOKED_AT, words: Words | None = None) -> Unfolded:
    """Every reading of the text. Work is linear in what is looked at; never raises."""
    words = words or known_words()
    part, places = sampled(text, limit)
    plain = fold(part)
    if places is not None and plain.text:
        plain = Folded(text=plain.text, starts=places[plain.starts], ends=places[plain.ends - 1] + 1, odd=plain.odd)
    layers = [Layer(folded=plain)]
    readings = {plain.text}
    budget = _BUDGET * max(len(part), 1_024)
    cut, at = False, 0
    while at < len(layers):
        layer = layers[at]
        at += 1
        for how, inner in _inner(layer.folded, words):
            if inner.text in readings or not inner.text:
                continue
            if len(layer.how) >= DEPTH or budget < len(inner.text):
                cut = True
                continue
            budget -= len(inner.text)
            readings.add(inner.text)
            layers.append(Layer(folded=inner, how=(*layer.how, how)))
    return Unfolded(layers=tuple(layers), seen=len(part), length=len(text), cut=cut)


def _inner(folded: Folded, words: Words) -> Iterator[tuple[str, Folded]]:
    text = folded.text
    if "%" in text and _PERCENT.search(text):
        yield "url", _percent(folded)
    if "&" in text and _ENTITY.search(text):
        yield "entities", _entities(folded)
    for how, pattern, decode in _CODES:
        for number, match in enumerate(pattern.finditer(text)):
            if number >= _SEGMENTS:
                break
            inner = decode(match.group())
            if inner and _reads(inner):
                yield how, _standing(inner, folded, match.start(), match.end())
    yield from respelt(folded, words)
    yield from turned(folded, words)


def _standing(inner: str, folded: Folded, start: int, end: int) -> Folded:
    """What was decoded, all of it standing where its code stood."""
    first, last = folded.span(start, end)
    looks = fold(inner)
    count = len(looks.text)
    return Folded(
        text=looks.text, starts=np.full(count, first, np.int32), ends=np.full(count, last, np.int32), odd=looks.odd
    )


def _reads(text: str) -> bool:
    """Whether it is text that someone could read."""
    shown = sum(1 for character in text if character.isprintable() or character in "\n\r\t")
    letters = sum(1 for character in text if character.isalpha() or character == " ")
    return len(text) >= _SMALLEST and shown >= _READABLE * len(text) and letters * 2 >= len(text)


def _text(raw: bytes) -> str:
    for name in ("utf-8", "utf-16-le") if raw[1:2] == b"\0" else ("utf-8",):
        try:
            return raw.decode(name)
        except UnicodeDecodeError:
            continue
    return ""


def _base64(code: str) -> str:
    code = re.sub(r"\s", "", code).rstrip("=").replace("-", "+").replace("_", "/")
    if len(code) % 4 == 1:
        code = code[:-1]
    try:
        return _text(base64.b64decode(code + "=" * (-len(code) % 4)))
    except (binascii.Error, ValueError):
        return ""


def _base32(code: str) -> str:
    code = code.rstrip("=")
    try:
        return _text(base64.b32decode(code + "=" * (-len(code) % 8)))
    except (binascii.Error, ValueError):
        return ""


def _hex(code: str) -> str:
    digits = _NOT_HEX.sub("", code)
    return _text(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _bits(code: str) -> str:
    digits = re.sub(r"[ ,]", "", code)
    return _text(bytes(int(digits[at : at + 8], 2) for at in range(0, len(digits) // 8 * 8, 8)))


_CODES: Final[tuple[tuple[str, re.Pattern[str], Callable[[str], str]], ...]] = (
    ("bits", _BITS, _bits),
    ("hex", _HEX, _hex),
    ("base32", _BASE32, _base32),
    ("base64", _BASE64, _base64),
)


def _rewritten(folded: Folded, pattern: re.Pattern[str], read: Callable[[str], str]) -> Folded:
    """The text with each match read; what was read stands where its code stood."""
    texts, starts, ends, at = [], [], [], 0
    for match in pattern.finditer(folded.text):
        texts.append(folded.text[at : match.start()])
        starts.append(folded.starts[at : match.start()])
        ends.append(folded.ends[at : match.start()])
        looks = read(match.group())
        first, last = folded.span(match.start(), match.end())
        texts.append(looks)
        starts.append(np.full(len(looks), first, np.int32))
        ends.append(np.full(len(looks), last, np.int32))
        at = match.end()
    texts.append(folded.text[at:])
    starts.append(folded.starts[at:])
    ends.append(folded.ends[at:])
    return Folded(text="".join(texts), starts=np.concatenate(starts), ends=np.concatenate(ends))


_RUN: Final = re.compile(r"(?:%(?:25)*[0-9a-fA-F]{2})+")


def _percent(folded: Folded) -> Folded:
    """However often it was encoded over, in one go."""

    def read(code: str) -> str:
        raw = unquote_to_bytes(re.sub(r"%(?:25)+(?=[0-9a-fA-F]{2})", "%", code))
        return fold(raw.decode("utf-8", "replace")).text

    return _rewritten(folded, _RUN, read)


def _entities(folded: Folded) -> Folded:
    return _rewritten(folded, _ENTITY, lambda code: fold(html.unescape(code)).text)
