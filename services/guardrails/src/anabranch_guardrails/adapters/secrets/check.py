"""The check `secrets`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.adapters.secrets.rules import ASSIGNED, HARMLESS, HINTS, RULES
from anabranch_guardrails.domain import Finding, Span, Subject

MOST_CHARACTERS: Final = 1_000_000
"""Of a text that are looked at; the finding says so where there are more."""
VERSION: Final = "secrets-1"
KIND: Final = "SECRET"
KEY: Final = "KEY"
PRIVATE_KEY: Final = "PRIVATE_KEY"
TOKEN: Final = "TOKEN"  # noqa: S105  a kind of secret, and none
PASSWORD: Final = "PASSWORD"  # noqa: S105  a kind of secret, and none
KINDS: Final = (KEY, PRIVATE_KEY, TOKEN, PASSWORD)
_LETTERS: Final = re.compile(r"[A-Za-z]")
_DIGITS: Final = re.compile(r"[0-9]")
_HEX: Final = re.compile(r"^[0-9a-fA-F]+$")
_UUID: Final = re.compile(r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_PATH: Final = re.compile(r"^(?:[.~]{0,2}/|[A-Za-z]:\\|[\w-]{1,64}(?:\.[\w-]{1,64})+$|[a-z]{2,8}://)")
_CALL: Final = re.compile(r"^[A-Za-z_][\w.]{0,80}\(")
_SETS: Final = re.compile(r"\w=\w")
_EXAMPLE: Final = re.compile(r"(?i:example|xxxx|\.\.\.|\*\*\*|<[^>]{1,40}>|your[_-])")
_RANDOM: Final = 3.0
"""Bits a character from which what is assigned without quotes looks random."""
_VARIED: Final = 2.5
_SHORTEST: Final = 4


class Secrets:
    """Finds credentials: makers' keys by their form, others by the name that they are assigned to."""

    name = "secrets"
    version = VERSION

    def __init__(self, wanted: frozenset[str]) -> None:
        """Of `KINDS`, those looked for."""
        self._wanted = wanted

    def look(self, subject: Subject) -> Finding:
        """Spans of kind SECRET; the reason names what kind of secret, and never repeats it."""
        text = subject.text
        cut = len(text) > MOST_CHARACTERS
        if cut:
            text = text[:MOST_CHARACTERS]
        spans: list[Span] = []
        names: Counter[str] = Counter()
        for what, start, end, score in sorted(_found(text), key=lambda one: (one[1], -one[2])):
            if _kind(what) not in self._wanted or (spans and start < spans[-1].end):
                continue
            spans.append(Span(start=start, end=end, kind=KIND, score=score))
            names[what] += 1
        reasons = [f"{count} x {what}" for what, count in sorted(names.items())]
        if cut:
            reasons.append(f"only the first {MOST_CHARACTERS} characters were looked at")
        return Finding(
            score=max((span.score for span in spans), default=0.0), spans=tuple(spans), reason="; ".join(reasons)
        )


def configured(options: Mapping[str, object]) -> Secrets:
    """`kinds`: those looked for, of `KINDS`; by default all."""
    return Secrets(Options(options, known=("kinds",)).chosen("kinds", among=KINDS, default=KINDS))


def _kind(what: str) -> str:
    if what == "private key":
        return PRIVATE_KEY
    if "pass" in what or "pwd" in what:
        return PASSWORD
    return TOKEN if "token" in what or "authorisation" in what else KEY


def _found(text: str) -> Iterator[tuple[str, int, int, float]]:
    for rule in RULES:
        if not any(hint in text for hint in rule.hints):
            continue
        for match in rule.pattern.finditer(text):
            group = "value" if "value" in rule.pattern.groupindex else 0
            shown = match.group(group)
            if rule.varied and (entropy(shown) < _VARIED or _EXAMPLE.search(shown)):
                continue
            if group and HARMLESS.match(shown):
                continue
            yield rule.name, match.start(group), match.end(group), rule.score
    lowered = text.lower()
    if any(hint in lowered for hint in HINTS):
        yield from _assigned(text)


def _assigned(text: str) -> Iterator[tuple[str, int, int, float]]:
    for match in ASSIGNED.finditer(text):
        quoted = match.group("quoted") is not None
        group = "quoted" if quoted else "bare"
        value = match.group(group)
        end = match.end(group)
        if not quoted:
            trimmed = value.rstrip(".!?:")
            end -= len(value) - len(trimmed)
            value = trimmed
        score = _score(match.group("name").lower(), match.group("assigns"), value, quoted=quoted)
        if score:
            yield f"{_named(match.group('name'))} that is set", match.start(group), end, score


def _named(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")


def _score(name: str, assigns: str, value: str, *, quoted: bool) -> float:
    if len(value) < _SHORTEST or any(
        seen is not None
        for seen in (
            HARMLESS.match(value),
            _EXAMPLE.search(value),
            _CALL.match(value),
            _UUID.match(value),
            _SETS.search(value),
        )
    ):
        return 0.0
    numbered = _DIGITS.search(value) is not None
    mixed = _LETTERS.search(value) is not None and (numbered or not value.isalnum())
    if name.startswith(("pass", "pwd")):
        if quoted and " " not in value:
            return 0.9 if mixed else 0.7
        # Prose: "password: something" names a thing as often as it tells one.
        return 0.8 if mixed and numbered and not _PATH.match(value) else 0.0
    told = assigns.strip().rstrip(":").strip().lower() in {"is", "was"}
    if (told and not numbered) or " " in value or _PATH.match(value) or not (mixed and numbered):
        return 0.0
    fewest, score = (16, 0.8) if _HEX.match(value) else (12, 0.85)
    return score if len(value) >= fewest and entropy(value) >= _RANDOM else 0.0


def entropy(text: str) -> float:
    """Bits a character, by how often each stands in it."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values()) if size else 0.0
