"""Placeholders for personal data, and the way back.

What leaves holds `<EMAIL_1>` where an address stood: equal values have equal placeholders, over all texts of one
vault. What a text already holds that could be taken for a placeholder is itself replaced (`<TEXT_1>`), so that putting
back is exact. Models change what they copy: other case, spaces, escaped, square or other brackets, or none at all are
understood as long as kind and number are one that the vault has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from anabranch_guardrails.adapters.personal.check import PersonalData, configured
from anabranch_guardrails.adapters.personal.kinds import KINDS
from anabranch_guardrails.domain import Span

__all__ = ["LONGEST", "Anonymiser", "Restorer", "placeholders_in", "restored"]

LITERAL: Final = "TEXT"
"""The kind of what only looked like a placeholder."""
LONGEST: Final = 48
"""Characters that a placeholder has at most, however it was changed."""
_NAMES: Final = "|".join(sorted((*KINDS, LITERAL), key=lambda name: (-len(name), name)))
_LOOSE: Final = _NAMES.replace("_", r"(?:\\?_|[ -])")
_PLACEHOLDER: Final = re.compile(
    rf"(?:(?P<escaped>\\)?[<\[{{(]|&lt;|[\uff1c\u3008\u27e8])[ ]{{0,2}}"
    rf"(?P<kind>(?i:{_LOOSE}))(?:\\?_|[ -])(?P<number>[0-9]{{1,6}})[ ]{{0,2}}"
    r"(?(escaped)\\|\\?)(?:[>\]})]|&gt;|[\uff1e\u3009\u27e9])"
    rf"|(?<![A-Za-z0-9_])(?P<bare>{_NAMES})_(?P<digits>[0-9]{{1,6}})(?![A-Za-z0-9_])"
)
# An escape at the beginning wants one at the end: the backslash before a placeholder that nobody changed is the text's.
_BEGUN: Final = re.compile(
    r"(?:\\|&|[<\[{(\uff1c\u3008\u27e8])[A-Za-z0-9_ \\&;<\[{(-]{0,44}\Z|(?<![A-Za-z0-9_])[A-Z][A-Z_]{0,24}[0-9]{0,6}\Z"
)
"""What may become a placeholder with what follows: every beginning of one matches, from its first character."""


class Anonymiser:
    """Replaces personal data of some kinds over all texts of one question: one use, one vault."""

    def __init__(self, kinds: Sequence[str]) -> None:
        """Raises Invalid for a kind that there is not."""
        self._check: PersonalData = configured({"kinds": list(kinds)})
        self._known: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    @property
    def vault(self) -> dict[str, str]:
        """What each placeholder stands for. Secret."""
        return {placeholder: value for (_, value), placeholder in self._known.items()}

    def spans(self, text: str) -> Sequence[Span]:
        """Where personal data of these kinds stands."""
        return self._check.inspect(text).spans

    def hidden(self, text: str) -> str:
        """The text with placeholders."""
        return self.replaced(text, self.spans(text))

    def replaced(self, text: str, spans: Sequence[Span]) -> str:
        """The text with placeholders for these spans (where two overlap, the first), and for what looks like one."""
        parts: list[str] = []
        place = 0
        for span in sorted(spans, key=lambda one: (one.start, -one.end)):
            if span.start < place or span.end > len(text):
                continue
            parts.extend((self._literal(text, place, span.start), self._named(span.kind, text[span.start : span.end])))
            place = span.end
        parts.append(self._literal(text, place, len(text)))
        return "".join(parts)

    def _literal(self, text: str, start: int, end: int) -> str:
        part = text[start:end]
        return _PLACEHOLDER.sub(lambda match: self._named(LITERAL, match.group()), part)

    def _named(self, kind: str, value: str) -> str:
        found = self._known.get((kind, value))
        if found is None:
            number = self._counts.get(kind, 0) + 1
            self._counts[kind] = number
            found = f"<{kind}_{number}>"
            self._known[kind, value] = found
        return found


class Restorer:
    """Puts back, over a text that comes in pieces; holds back only what may be the beginning of a placeholder."""

    def __init__(self, vault: Mapping[str, str]) -> None:
        """Knows what the placeholders stand for."""
        self._vault = vault
        self._held = ""
        self._before = ""

    def feed(self, piece: str) -> str:
        """Text that is sure by now, values put back."""
        if not self._vault:
            return piece
        waiting = self._before + self._held + piece
        skipped = len(self._before)
        begun = _BEGUN.search(waiting, max(skipped, len(waiting) - LONGEST))
        cut = begun.start() if begun else len(waiting)
        return self._released(waiting, skipped, cut)

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        waiting = self._before + self._held
        return self._released(waiting, len(self._before), len(waiting)) if self._held else ""

    def _released(self, waiting: str, skipped: int, cut: int) -> str:
        out: list[str] = []
        place = skipped
        # `endpos` would hide what follows from the last look-ahead, so matches past the cut are left for later instead.
        for match in _PLACEHOLDER.finditer(waiting, skipped):
            if match.start() >= cut:
                break
            value = self._value(match)
            if value is not None:
                out.extend((waiting[place : match.start()], value))
                place = match.end()
        cut = max(cut, place)
        out.append(waiting[place:cut])
        self._held = waiting[cut:]
        self._before = waiting[cut - 1 : cut] if cut else ""
        return "".join(out)

    def _value(self, match: re.Match[str]) -> str | None:
        return self._vault.get(_canonical(match))


def restored(text: str, vault: Mapping[str, str]) -> str:
    """The whole text with values put back, once: what a value itself holds stays as it is."""
    if not vault:
        return text
    return _PLACEHOLDER.sub(lambda match: vault.get(_canonical(match), match.group()), text)


def placeholders_in(text: str) -> list[str]:
    """The placeholders in it, in their plain form."""
    return [_canonical(match) for match in _PLACEHOLDER.finditer(text)]


def _canonical(match: re.Match[str]) -> str:
    kind = match.group("kind") or match.group("bare")
    number = match.group("number") or match.group("digits")
    return f"<{re.sub(r'[^A-Za-z]+', '_', kind).upper()}_{int(number)}>"
