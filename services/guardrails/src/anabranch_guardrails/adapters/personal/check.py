"""The check `pii`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.adapters.personal import addresses, kinds, numbers, phones, words
from anabranch_guardrails.adapters.personal.folding import folded
from anabranch_guardrails.adapters.personal.kinds import Found
from anabranch_guardrails.domain import Finding, Span, Subject

MOST_CHARACTERS: Final = 1_000_000
"""Of a text that are looked at; the finding says so where there are more."""
VERSION: Final = "pii-1"
_DIGIT: Final = re.compile(r"[0-9]")
_FEWEST_DIGITS: Final = re.compile(r"[0-9](?:[^0-9]{0,4}[0-9]){6}")
_FIRST: Final = (
    kinds.EMAIL,
    kinds.IBAN,
    kinds.CARD,
    kinds.SSN,
    kinds.LICENCE,
    kinds.PASSPORT,
    kinds.NATIONAL_ID,
    kinds.DATE_OF_BIRTH,
)
_LAST: Final = (kinds.MAC, kinds.IP, kinds.WALLET)
_WITH_PAGES: Final = (*_FIRST, kinds.URL, *_LAST, kinds.PHONE, kinds.PERSON)
_WITHOUT_PAGES: Final = (*_FIRST, *_LAST, kinds.URL, kinds.PHONE, kinds.PERSON)
"""Of two that overlap the first stays. A page that is not wanted still says that its digits are no telephone's."""


class PersonalData:
    """Finds personal data by form, check digits and the words around; names only where they are introduced."""

    name = "pii"

    def __init__(self, wanted: frozenset[str]) -> None:
        """Finds these kinds."""
        self._wanted = wanted
        ranked = _WITH_PAGES if kinds.URL in wanted else _WITHOUT_PAGES
        self._ranks = {kind: rank for rank, kind in enumerate(ranked)}

    @property
    def version(self) -> str:
        """Of the rules."""
        return VERSION

    def look(self, subject: Subject) -> Finding:
        """Spans of the text; the score is that of the surest."""
        return self.inspect(subject.text)

    def inspect(self, text: str) -> Finding:
        """The same of a text alone."""
        cut = len(text) > MOST_CHARACTERS
        fold = folded(text[:MOST_CHARACTERS] if cut else text)
        spans = tuple(
            Span(start=start, end=end, kind=one.kind, score=one.score)
            for one in _apart(list(_all(fold.text, names=kinds.PERSON in self._wanted)), self._ranks)
            if one.kind in self._wanted
            for start, end in (fold.span(one.start, one.end),)
        )
        counts = Counter(span.kind for span in spans)
        reasons = [f"{count} of {kind}" for kind, count in sorted(counts.items())]
        if cut:
            reasons.append(f"only the first {MOST_CHARACTERS} characters were looked at")
        return Finding(score=max((span.score for span in spans), default=0.0), spans=spans, reason="; ".join(reasons))


def configured(options: Mapping[str, object]) -> PersonalData:
    """`kinds`: those looked for, of `KINDS`; by default all but names and pages."""
    read = Options(options, known=("kinds",))
    phones.warmed()
    return PersonalData(read.chosen("kinds", among=kinds.KINDS, default=kinds.DEFAULT))


def _all(text: str, *, names: bool) -> Iterator[Found]:
    """Kinds that are not wanted are found all the same: what is a page's address is no telephone number."""
    if "@" in text or " at " in text or "at]" in text or "at)" in text:
        yield from addresses.mails(text)
    if "." in text or "://" in text:
        yield from addresses.pages(text)
    digits = _DIGIT.search(text) is not None
    yield from words.introduced(text, digits=digits, names=names)
    if not digits:
        return
    yield from addresses.machines(text)
    if _FEWEST_DIGITS.search(text):
        yield from numbers.cards(text)
        yield from numbers.accounts(text)
        yield from numbers.persons(text)
        yield from phones.phones(text)


def _apart(found: list[Found], ranks: Mapping[str, int]) -> list[Found]:
    """Where two overlap the one of the first rank stays."""
    if len(found) <= 1:
        return found
    taken: list[Found] = []
    found.sort(key=lambda one: (one.start, ranks[one.kind], -one.end))
    for one in found:
        if taken and one.start < taken[-1].end:
            if ranks[one.kind] < ranks[taken[-1].kind]:
                taken[-1] = one
            continue
        taken.append(one)
    return taken
