"""Questions asked in other words, and questions that only look the same: by rules, from given questions.

For training the answer cache's verifier and for measuring the cache. The rules come in two halves of about equal
kind, so that what was trained on one half can be measured on words of the other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Half = Literal["a", "b"]
Rule = Callable[[str, random.Random], str | None]

_CARRIERS: Final[dict[Half, tuple[str, ...]]] = {
    "a": (
        "please tell me {q}",
        "can you tell me {q}?",
        "I would like to know {q}",
        "Question: {q}",
        "{q} please",
        "do you know {q}?",
        "hey, {q}",
        "quick question: {q}",
        "{q} Thanks!",
    ),
    "b": (
        "could you find out {q}?",
        "tell me {q}",
        "I am trying to find out {q}",
        "does anyone know {q}?",
        "I need to know {q}",
        "{q}, thank you",
        "may I ask {q}",
        "help: {q}",
        "so {q}",
    ),
}
_SYNONYMS: Final[dict[Half, tuple[tuple[str, str], ...]]] = {
    "a": (
        ("movie", "film"),
        ("located", "situated"),
        ("large", "big"),
        ("start", "begin"),
        ("started", "began"),
        ("kind", "type"),
        ("famous", "well-known"),
        ("setting", "option"),
        ("created", "made"),
        ("wife", "spouse"),
        ("show", "series"),
        ("called", "named"),
        ("author", "writer"),
        ("purpose", "aim"),
        ("built", "constructed"),
        ("often", "frequently"),
    ),
    "b": (
        ("city", "town"),
        ("default", "standard"),
        ("setting", "parameter"),
        ("value", "amount"),
        ("founded", "established"),
        ("singer", "vocalist"),
        ("actor", "performer"),
        ("played", "portrayed"),
        ("war", "conflict"),
        ("job", "occupation"),
        ("nationality", "citizenship"),
        ("released", "published"),
        ("biggest", "largest"),
        ("wrote", "authored"),
        ("use", "employ"),
        ("important", "significant"),
    ),
}
_TURNS: Final[dict[Half, tuple[tuple[str, str], ...]]] = {
    "a": (
        (r"^what is the (.+?) of (.+)$", r"what is \2's \1"),
        (r"^when (?:was|were) (.+)$", r"in what year was \1"),
        (r"^what year (?:was|were|did) (.+)$", r"when was \1"),
        (r"^who wrote (.+)$", r"who is the author of \1"),
        (r"^on what date was (.+?) created$", r"when was \1 created"),
        (r"^where is (.+)$", r"in which place is \1"),
        (r"^how many (.+)$", r"what is the number of \1"),
        (r"^which (.+)$", r"what \1"),
        (r"^in what (.+)$", r"in which \1"),
        (r"^who was (.+)$", r"which person was \1"),
    ),
    "b": (
        (r"^what is (.+)$", r"\1 is what"),
        (r"^when did (.+)$", r"at what time did \1"),
        (r"^what (\w+) (.+)$", r"which \1 \2"),
        (r"^who (?:is|was) the author of (.+)$", r"who wrote \1"),
        (r"^what is the (.+?) of (.+)$", r"\2: what is the \1"),
        (r"^on what date was (.+?) created$", r"what is the date of creation of \1"),
        (r"^where was (.+)$", r"in which location was \1"),
        (r"^why (?:is|was|are|were|do|does|did) (.+)$", r"what is the reason that \1"),
        (r"^how did (.+)$", r"in what way did \1"),
        (r"^who (.+)$", r"what is the name of the person who \1"),
    ),
}
_CONTRACTIONS: Final = (("what is", "what's"), ("who is", "who's"), ("where is", "where's"), ("do not", "don't"))
_OPPOSITES: Final[dict[Half, tuple[tuple[str, str], ...]]] = {
    "a": (
        ("first", "last"),
        ("oldest", "youngest"),
        ("largest", "smallest"),
        ("highest", "lowest"),
        ("before", "after"),
        ("maximum", "minimum"),
        ("north", "south"),
        ("father", "mother"),
        ("start", "end"),
        ("most", "least"),
        ("born", "buried"),
        ("older", "younger"),
    ),
    "b": (
        ("longest", "shortest"),
        ("best", "worst"),
        ("earliest", "latest"),
        ("east", "west"),
        ("brother", "sister"),
        ("won", "lost"),
        ("more", "fewer"),
        ("husband", "wife"),
        ("upper", "lower"),
        ("begin", "finish"),
        ("producer", "consumer"),
        ("founded", "closed"),
        ("bigger", "smaller"),
    ),
}
_ASKED: Final[dict[Half, tuple[tuple[str, str], ...]]] = {
    "a": (
        (r"\bwhen\b", "why"),
        (r"\bwho\b", "when"),
        (r"\bwhere\b", "when"),
        (r"\bwhat year\b", "what city"),
        (r"\bhow many\b", "which"),
        (r"\bstatus\b", "title"),
        (r"\bdefault value\b", "type"),
    ),
    "b": (
        (r"\bwhen\b", "where"),
        (r"\bwho\b", "where"),
        (r"\bwhere\b", "how"),
        (r"\bwhat year\b", "what month"),
        (r"\bhow many\b", "how old are the"),
        (r"\bcreated\b", "accepted"),
        (r"\bdefault value\b", "importance"),
    ),
}
_NARROWER: Final[dict[Half, tuple[str, ...]]] = {
    "a": ("in Europe", "in 1950", "for children", "in the second season", "during the war"),
    "b": ("in Asia", "in 2003", "for beginners", "in the first edition", "before the merger"),
}
_AUXILIARY: Final = re.compile(r"\b(is|was|are|were|does|do|did|can|could|has|have|will)\b")
_CAPITALS: Final = re.compile(r"(?<![.?!] )(?<!^)\b(?:[A-Z][\w'.-]*)(?: (?:of |the |and )?[A-Z][\w'.-]*)*")
_NUMBER: Final = re.compile(r"\b\d+\b")
_QUESTION: Final = re.compile(
    r"^(?:who|what|when|where|why|which|how|whose|in|on|is|are|was|were|do|does|did)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A question that only looks like another, and by what rule."""

    text: str
    rule: str


class Rephraser:
    """Makes questions out of questions. `names` are those that may stand for one another."""

    def __init__(self, half: Half, names: Sequence[str], seed: int) -> None:
        """Takes the half of the rules to use."""
        self._half: Half = half
        self._names = list(names)
        self._rng = random.Random(seed)  # noqa: S311  reproducible on purpose
        self._same: tuple[Rule, ...] = (
            self._carried,
            self._carried,
            self._turned,
            self._turned,
            self._synonym,
            self._plain,
            self._contracted,
            self._slip,
            self._dropped,
            self._telegram,
        )
        self._other: tuple[tuple[str, Rule], ...] = (
            ("entity", self._other_name),
            ("entity", self._other_name),
            ("number", self._other_number),
            ("negation", self._negated),
            ("opposite", self._opposed),
            ("asked", self._asked),
            ("narrower", self._narrowed),
            ("reversed", self._reversed),
        )

    def same(self, question: str) -> str:
        """The question in other words: one to three rules, one after the other."""
        text = question.strip()
        for _ in range(self._rng.choice((1, 1, 2, 2, 3))):
            rule = self._rng.choice(self._same)
            text = rule(text, self._rng) or text
        return text

    def near(self, question: str) -> Near | None:
        """A question with another answer that looks like it; None where no rule fits."""
        for _ in range(12):
            name, rule = self._rng.choice(self._other)
            changed = rule(question.strip(), self._rng)
            if changed is not None and changed.casefold() != question.strip().casefold():
                return Near(text=changed, rule=name)
        return None

    def _carried(self, text: str, rng: random.Random) -> str | None:
        if not _QUESTION.match(text):
            return None
        carrier = rng.choice(_CARRIERS[self._half])
        inner = text if carrier.startswith("{q}") else text[0].lower() + text[1:]
        if "{q}?" in carrier or not carrier.endswith("{q}"):
            inner = inner.rstrip(" ?.")
        return carrier.format(q=inner)

    def _turned(self, text: str, rng: random.Random) -> str | None:
        plain = text.rstrip(" ?.")
        fitting = [pair for pair in _TURNS[self._half] if re.match(pair[0], plain, re.IGNORECASE)]
        if not fitting:
            return None
        pattern, into = rng.choice(fitting)
        changed = re.sub(pattern, into, plain, flags=re.IGNORECASE)
        return changed[0].upper() + changed[1:] + "?"

    def _synonym(self, text: str, rng: random.Random) -> str | None:
        return _swapped(text, _SYNONYMS[self._half], rng)

    def _plain(self, text: str, rng: random.Random) -> str | None:
        return text.lower().rstrip(" ?.") if rng.random() < 0.7 else text.upper()  # noqa: PLR2004  mostly small letters

    def _contracted(self, text: str, rng: random.Random) -> str | None:
        for long, short in _CONTRACTIONS:
            if text.lower().startswith(long):
                return short.capitalize() + text[len(long) :]
        return self._plain(text, rng)

    def _slip(self, text: str, rng: random.Random) -> str | None:
        words = text.split()
        at = [place for place, word in enumerate(words) if len(word) > 5 and word.isalpha()]  # noqa: PLR2004  long words
        if not at:
            return None
        place = rng.choice(at)
        word = words[place]
        where = rng.randrange(1, len(word) - 2)
        swap = word[:where] + word[where + 1] + word[where] + word[where + 2 :]
        words[place] = swap if self._half == "a" else word[:where] + word[where + 1 :]
        return " ".join(words)

    def _dropped(self, text: str, rng: random.Random) -> str | None:
        articles = " the " if self._half == "a" else " a "
        return text.replace(articles, " ", 1) if articles in text and rng.random() < 1 else None

    def _telegram(self, text: str, rng: random.Random) -> str | None:
        match = re.match(r"^what (?:is|was) (?:the )?(.+)$", text.rstrip(" ?."), re.IGNORECASE)
        if match is None:
            return None
        return match[1] if self._half == "a" or rng.random() < 0.5 else f"{match[1]}?"  # noqa: PLR2004  a coin

    def _other_name(self, text: str, rng: random.Random) -> str | None:
        found = [match for match in _CAPITALS.finditer(text) if match.start() > 0]
        if not found or not self._names:
            return None
        match = rng.choice(found)
        words = len(match[0].split())
        like = [name for name in self._names if len(name.split()) == words and name != match[0]] or self._names
        return text[: match.start()] + rng.choice(like) + text[match.end() :]

    def _other_number(self, text: str, rng: random.Random) -> str | None:
        found = list(_NUMBER.finditer(text))
        if not found:
            return None
        match = rng.choice(found)
        step = rng.choice((-2, -1, 1, 2, 10, 100))
        number = max(1, int(match[0]) + step)
        return None if str(number) == match[0] else text[: match.start()] + str(number) + text[match.end() :]

    def _negated(self, text: str, rng: random.Random) -> str | None:
        match = _AUXILIARY.search(text)
        if match is None:
            return None
        word = "not" if self._half == "a" or rng.random() < 0.5 else "never"  # noqa: PLR2004  a coin
        return f"{text[: match.end()]} {word}{text[match.end() :]}"

    def _opposed(self, text: str, rng: random.Random) -> str | None:
        return _swapped(text, _OPPOSITES[self._half], rng)

    def _asked(self, text: str, rng: random.Random) -> str | None:
        fitting = [pair for pair in _ASKED[self._half] if re.search(pair[0], text, re.IGNORECASE)]
        if not fitting:
            return None
        pattern, into = rng.choice(fitting)
        changed = re.sub(pattern, into, text, count=1, flags=re.IGNORECASE)
        return changed[0].upper() + changed[1:]

    def _narrowed(self, text: str, rng: random.Random) -> str | None:
        return f"{text.rstrip(' ?.')} {rng.choice(_NARROWER[self._half])}?"

    def _reversed(self, text: str, rng: random.Random) -> str | None:
        found = list(_CAPITALS.finditer(text))
        if len(found) < 2 or rng.random() < 0:  # noqa: PLR2004  two to change places
            return None
        one, other = found[0], found[1]
        return text[: one.start()] + other[0] + text[one.end() : other.start()] + one[0] + text[other.end() :]


def _swapped(text: str, pairs: Sequence[tuple[str, str]], rng: random.Random) -> str | None:
    fitting = [
        (one, other)
        for pair in pairs
        for one, other in (pair, pair[::-1])
        if re.search(rf"\b{one}\b", text, re.IGNORECASE)
    ]
    if not fitting:
        return None
    one, other = rng.choice(fitting)
    return re.sub(rf"\b{one}\b", other, text, count=1, flags=re.IGNORECASE)


def names_in(questions: Sequence[str]) -> list[str]:
    """Names that stand in questions, each once."""
    return sorted({match[0] for text in questions for match in _CAPITALS.finditer(text)})
