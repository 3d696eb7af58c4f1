"""Personal data that stays here: placeholders leave for the model, and become again what they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Protocol, TypeAlias, cast

from anabranch_gateway.domain.answers import Citation, Passage

Place: TypeAlias = tuple[int, int]

_NUMBER = re.compile(r"\d+(?=\D*$)")
_LAST_WORD = re.compile(r"(?<=\w)(?=\W*$)")


class _Span(Protocol):
    start: int
    end: int


class _Sentence(Protocol):
    span: _Span


class PassageText(Protocol):
    """What is read, and in a copy written, of a passage."""

    text: str
    title: str
    chunk_id: str
    source_uri: str

    @property
    def span(self) -> _Span: ...  # noqa: D102  the contract's

    @property
    def sentences(self) -> list[_Sentence]: ...  # noqa: D102  the contract's


class _CitationText(Protocol):
    text: str
    title: str
    chunk_id: str

    @property
    def span(self) -> _Span: ...

    @property
    def answer_span(self) -> _Span: ...


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A text with some words in the place of others; `pieces` are (start, end) in the old and in the new text."""

    text: str
    pieces: Sequence[tuple[int, int, int, int]] = ()

    def place(self, start: int, end: int) -> Place:
        """Where a span of the old text is in the new one. What cuts into a replaced word takes all of it."""
        return self._at(start, first=True), self._at(end, first=False)

    def _at(self, offset: int, *, first: bool) -> int:
        shift = 0
        for old_start, old_end, new_start, new_end in self.pieces:
            if offset <= old_start:
                break
            if offset < old_end:
                return new_start if first else new_end
            shift = new_end - old_end
        return offset + shift

    def reversed(self, old: str) -> Rewritten:
        """The way back to the old text."""
        return Rewritten(old, tuple((c, d, a, b) for a, b, c, d in self.pieces))


def rewritten(text: str, words: Mapping[str, str], *, whole: bool = False) -> Rewritten:
    """The text with each of `words` replaced, longer ones first; with `whole` only where no word goes on."""
    if not words:
        return Rewritten(text)
    sought = "|".join(_sought(word, whole=whole) for word in sorted(words, key=len, reverse=True) if word)
    parts: list[str] = []
    pieces: list[tuple[int, int, int, int]] = []
    at = length = 0
    for match in re.finditer(sought, text):
        new = words[match.group()]
        parts += [text[at : match.start()], new]
        length += match.start() - at
        pieces.append((match.start(), match.end(), length, length + len(new)))
        length += len(new)
        at = match.end()
    return Rewritten("".join((*parts, text[at:])), tuple(pieces))


def _sought(word: str, *, whole: bool) -> str:
    before = r"(?<!\w)" if whole and word[:1].isalnum() else ""
    after = r"(?!\w)" if whole and word[-1:].isalnum() else ""
    return f"{before}{re.escape(word)}{after}"


@dataclass(slots=True)
class Vault:
    """What the placeholders of one answer stand for. Never logged, never stored."""

    values: dict[str, str] = field(default_factory=dict, repr=False)

    def adopt(self, vault: Mapping[str, str], *texts: str) -> tuple[str, ...]:
        """Takes the placeholders of another check over; its texts with names that mean one thing only.

        The checks of a question and of its passages count by themselves: the same name may stand for two things in
        them, and the same thing may have two names.
        """
        names: dict[str, str] = {}
        known = {value: name for name, value in self.values.items()}
        for name, value in vault.items():
            ours = known.get(value) or self._free(name, value)
            self.values[ours] = value
            known[value] = ours
            if ours != name:
                names[name] = ours
        return tuple(rewritten(text, names).text for text in texts)

    def restore(self, text: str) -> Rewritten:
        """The text with what the placeholders stand for."""
        return rewritten(text, self.values)

    def hide(self, text: str) -> Rewritten:
        """The text with placeholders for all that they stand for."""
        return rewritten(text, {value: name for name, value in self.values.items()}, whole=True)

    def _free(self, name: str, value: str) -> str:
        number = 2
        ours = name
        while self.values.get(ours, value) != value:
            if _NUMBER.search(name):
                ours = _NUMBER.sub(str(number), name)
            else:
                ours = _LAST_WORD.sub(f"_{number}", name, count=1)
            number += 1
        return ours


@dataclass(frozen=True, slots=True)
class Veiled:
    """A passage that the model sees otherwise: the ways from its text there to what people see, and to the original."""

    original: PassageText
    restored: Rewritten
    back: Rewritten


def veil(passage: Passage, hidden: str, vault: Vault) -> tuple[Passage, Passage, Veiled | None]:
    """The passage for the model, with the text `hidden`, and for people: that with what its placeholders stand for.

    Copies where they differ from the passage, their sentences where they now are.
    """
    original = cast("PassageText", passage)
    hidden, title = vault.hide(hidden).text, vault.hide(original.title).text
    if (hidden, title) == (original.text, original.title):
        return passage, passage, None
    restored = vault.restore(hidden)
    back = aligned(restored.text, original.text)
    ours, theirs = cast("PassageText", deepcopy(passage)), passage
    ours.text, ours.title, ours.span.end = hidden, title, original.span.start + len(hidden)
    to_people, to_model = back.reversed(restored.text), restored.reversed(hidden)
    for sentence in ours.sentences:
        place = to_people.place(sentence.span.start, sentence.span.end)
        sentence.span.start, sentence.span.end = to_model.place(*place)
    if restored.text != original.text:
        redacted = cast("PassageText", deepcopy(passage))
        redacted.text = restored.text
        del redacted.sentences[:]
        theirs = cast("Passage", redacted)
    return cast("Passage", ours), theirs, Veiled(original, restored, back)


def aligned(old: str, new: str) -> Rewritten:
    """The way between two texts that are mostly the same."""
    if old == new:
        return Rewritten(new)
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    return Rewritten(new, tuple((a, b, c, d) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"))


def unveiled(citation: Citation, veiled: Mapping[str, Veiled]) -> Citation | None:
    """The citation as one of the passage that people see; None where its words are not in it."""
    cited = cast("_CitationText", citation)
    hidden = veiled.get(cited.chunk_id)
    if hidden is None:
        return citation
    begin, text = hidden.original.span.start, hidden.restored.text
    start, end = hidden.restored.place(cited.span.start - begin, cited.span.end - begin)
    if not 0 <= start < end <= len(text):
        return None
    copy = cast("_CitationText", deepcopy(citation))
    copy.text, copy.title = text[start:end], hidden.original.title
    place = hidden.back.place(start, end)
    copy.span.start, copy.span.end = begin + place[0], begin + place[1]
    return cast("Citation", copy)


def moved(citation: Citation, place: Callable[[int, int], Place | None]) -> Citation | None:
    """The citation with its span of the answer where `place` puts it; None where that is gone."""
    cited = cast("_CitationText", citation)
    span = place(cited.answer_span.start, cited.answer_span.end)
    if span is None:
        return None
    if span == (cited.answer_span.start, cited.answer_span.end):
        return citation
    copy = cast("_CitationText", deepcopy(citation))
    copy.answer_span.start, copy.answer_span.end = span
    return cast("Citation", copy)


class Shown:
    """Where the words of a draft are in the answer that was shown: with placeholders restored, and parts redacted."""

    def __init__(self, draft: str, shown: str, vault: Vault) -> None:
        """Compares them once."""
        self._restored = vault.restore(draft)
        self._text = shown
        text, shortest = self._restored.text, min(len(self._restored.text), len(shown))
        self._same = text == shown
        self._before = next((n for n in range(shortest) if text[n] != shown[n]), shortest)
        self._after = next((n for n in range(shortest - self._before) if text[-1 - n] != shown[-1 - n]), shortest)
        self._after = min(self._after, shortest - self._before)

    def place(self, start: int, end: int) -> Place | None:
        """The span in what was shown; None where it was cut."""
        text, shown = self._restored.text, self._text
        start, end = self._restored.place(start, end)
        if self._same or end <= self._before:
            return start, end
        shift = len(shown) - len(text)
        if start >= len(text) - self._after:
            return start + shift, end + shift
        words = text[start:end]
        near = min(
            (match.start() for match in re.finditer(f"(?={re.escape(words)})", shown)),
            key=lambda at: min(abs(at - start), abs(at - start - shift)),
            default=None,
        )
        return None if near is None or not words else (near, near + len(words))
