"""The check `canary`: whether an answer gives away the word that only the system prompt holds."""

from __future__ import annotations

import base64
import codecs
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Span, Subject

__all__ = ["Canary", "configured"]

VERSION: Final = "canary-1"
KIND: Final = "CANARY"
SHORTEST: Final = 6
"""Letters and digits of a canary; shorter ones show up by chance."""
MOST_CHARACTERS: Final = 2_000_000
"""Of a text that are looked at; the finding says so where there are more."""


class Canary:
    """Finds canaries as they are, in other case, spaced out, reversed or encoded (base64, hex, URL, ROT13)."""

    name = "canary"
    version = VERSION

    def __init__(self, words: tuple[str, ...]) -> None:
        """Further canaries, beside the subject's own."""
        self._words = words

    def look(self, subject: Subject) -> Finding:
        """1 where one is found; the reason says how it was written, not what it is."""
        words = [word for word in (subject.canary, *self._words) if len(_plain(word)) >= SHORTEST]
        if not words:
            return Finding(score=0.0)
        text = subject.text[:MOST_CHARACTERS]
        spans: list[Span] = []
        ways: list[str] = []
        kept: str | None = None
        places: list[int] | None = None
        for word in words:
            at = text.find(word)
            if at >= 0:
                ways.append("as it is")
                while at >= 0:
                    spans.append(Span(start=at, end=at + len(word), kind=KIND))
                    at = text.find(word, at + len(word))
                continue
            if kept is None:
                kept, places = _letters(text)
            for way, shape in _shapes(word):
                at = kept.find(shape)
                if at >= 0:
                    ways.append(way)
                    first, last = at, at + len(shape) - 1
                    spans.append(
                        Span(
                            start=places[first] if places else first,
                            end=(places[last] if places else last) + 1,
                            kind=KIND,
                            score=0.95,
                        )
                    )
                    break
        reasons = [f"the canary, {way}" for way in ways]
        if len(subject.text) > MOST_CHARACTERS:
            reasons.append(f"only the first {MOST_CHARACTERS} characters were looked at")
        return Finding(
            score=max((span.score for span in spans), default=0.0),
            spans=tuple(sorted(spans, key=lambda span: span.start)),
            reason="; ".join(reasons),
        )


def configured(options: Mapping[str, object]) -> Canary:
    """`words`: further texts that must not show up."""
    read = Options(options, known=("words",))
    words = read.texts("words")
    for word in words:
        if len(_plain(word)) < SHORTEST:
            raise read.fault("words", f"must have at least {SHORTEST} letters and digits each")
    return Canary(words)


def _plain(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def _letters(text: str) -> tuple[str, list[int] | None]:
    """The letters and digits in small letters, and where each stood."""
    kept: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        for one in char.casefold() if char.isascii() else unicodedata.normalize("NFKC", char).casefold():
            if one.isalnum():
                kept.append(one)
                places.append(place)
    return "".join(kept), places


@lru_cache(maxsize=64)
def _shapes(word: str) -> tuple[tuple[str, str], ...]:
    """What is left of the word's encodings when only letters and digits in small letters are looked at."""
    raw = word.encode()
    plain = _plain(word)
    shapes = [("changed or spaced out", plain), ("reversed", plain[::-1]), ("as hex", raw.hex())]
    shapes.append(("in ROT13", _plain(codecs.encode(word, "rot13"))))
    shapes.append(("as URL", "".join(f"{byte:02x}" for byte in raw)))
    for lead in range(3):
        # Where it stands within a longer text its first and last characters depend on the neighbours.
        code = base64.b64encode(b"\0" * lead + raw).decode().rstrip("=")
        head = (0, 2, 3)[lead]
        tail = -1 if (lead + len(raw)) % 3 else None
        shapes.append(("in base64", _plain(code[head:tail])))
    return tuple((way, shape) for way, shape in shapes if len(shape) >= SHORTEST)
