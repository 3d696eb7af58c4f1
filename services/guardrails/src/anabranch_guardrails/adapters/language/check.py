"""The check `language`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped] # it carries no types

from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Subject

VERSION: Final = "language-1"
_LETTER: Final = re.compile(r"[^\W\d_]")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_NOISE: Final = re.compile(r"https?://\S{1,2000}|`[^`\n]{1,500}`|\S{1,64}@\S{1,255}|[\w./\\-]{0,200}[/\\_]\S{0,200}")
_SURE: Final = 0.3
MOST_CHARACTERS: Final = 4_000
"""Of a text that tell its language: from its beginning, middle and end."""


class Language:
    """Finds texts in a language that the policy does not allow; too short a text is undecided, and passes."""

    name = "language"
    version = VERSION

    def __init__(self, *, allowed: frozenset[str], fewest: int) -> None:
        """Codes of ISO 639-1; letters a text must have to be decided on."""
        self._allowed = allowed
        self._fewest = fewest

    def look(self, subject: Subject) -> Finding:
        """The probability that it is in none of the allowed languages."""
        if not self._allowed:
            return Finding(score=0.0)
        text = _NOISE.sub(" ", _sampled(subject.text))
        letters = sum(map(len, _LETTERS.findall(text)))
        if letters < self._fewest and not _foreign_script(text):
            return Finding(score=0.0, reason="too short to tell its language")
        ranked = _identifier().rank(text)
        share = sum(chance for code, chance in ranked if code in self._allowed)
        best, chance = ranked[0]
        if chance < _SURE:
            return Finding(score=0.0, reason="no language is likely")
        return Finding(score=min(max(1.0 - float(share), 0.0), 1.0), reason=f"{best}, {float(chance):.2f}")


def configured(options: Mapping[str, object]) -> Language:
    """`languages`: codes of those that are allowed; none: all are. `fewest_letters`: 40."""
    read = Options(options, known=("languages", "fewest_letters"))
    allowed = frozenset(code.strip().lower() for code in read.texts("languages"))
    known = frozenset(_identifier().labels)
    for code in sorted(allowed - known):
        raise read.fault("languages", f"has no {code}; there are: {', '.join(sorted(known))}")
    return Language(allowed=allowed, fewest=read.whole("fewest_letters", default=40, low=1, high=1_000))


def _sampled(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    part = MOST_CHARACTERS // 3
    middle = (len(text) - part) // 2
    return " ".join((text[:part], text[middle : middle + part], text[-part:]))


def _foreign_script(text: str) -> bool:
    """Scripts of few languages tell with few letters."""
    return len(_LETTER.findall(text)) >= 6 and all(ord(char) >= 0x370 for char in _LETTER.findall(text))  # noqa: PLR2004  past Latin


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
