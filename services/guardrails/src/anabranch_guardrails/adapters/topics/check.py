"""The checks `topics`, `intent` and `relevance`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from anabranch_grounding import stems
from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.adapters.topics.likeness import MOST_CHARACTERS, Likeness
from anabranch_guardrails.domain import Finding, Subject

VERSION: Final = "topics-1"
_FEWEST_WORDS: Final = 3
"""Content words under which an answer is too short to be off its topic."""
_FOLLOW_UP: Final = 3
"""Content words under which a question is read with the one before it."""


class Topics:
    """Finds texts of a denied topic, and, where topics are allowed, texts of none of them."""

    name = "topics"
    version = VERSION

    def __init__(self, *, allowed: Mapping[str, tuple[str, ...]], denied: Mapping[str, tuple[str, ...]]) -> None:
        """Examples by topic."""
        self._allowed = Likeness(allowed) if allowed else None
        self._denied = Likeness(denied) if denied else None

    def look(self, subject: Subject) -> Finding:
        """How like it is to a denied topic, or how unlike to all that are allowed, whichever is more."""
        return _held_against(_read_with_turns(subject), self._allowed, self._denied, ("allowed topic", "denied topic"))


class Intent:
    """Finds requests of a kind that is not served, or, where kinds are named that are, of none of them."""

    name = "intent"
    version = VERSION

    def __init__(self, *, supported: Mapping[str, tuple[str, ...]], unsupported: Mapping[str, tuple[str, ...]]) -> None:
        """Examples by intent."""
        self._supported = Likeness(supported) if supported else None
        self._unsupported = Likeness(unsupported) if unsupported else None

    def look(self, subject: Subject) -> Finding:
        """How like it is to the nearest unsupported, or how unlike to all that are supported, whichever is more."""
        return _held_against(
            _read_with_turns(subject), self._supported, self._unsupported, ("supported intent", "unsupported intent")
        )


class Relevance:
    """Finds answers that speak of neither what was asked nor what was found for it."""

    name = "relevance"
    version = VERSION

    def look(self, subject: Subject) -> Finding:
        """1 less the larger share: of the question's words in the answer, or of the answer's words in the passages."""
        words = set(stems(subject.text[:MOST_CHARACTERS]))
        asked = set(stems(subject.question[:MOST_CHARACTERS]))
        if len(words) < _FEWEST_WORDS or not asked:
            return Finding(score=0.0, reason="too short to tell what it speaks of")
        shares = [len(asked & words) / len(asked)]
        held: set[str] = set()
        for context in subject.contexts:
            held.update(stems(context.text[:MOST_CHARACTERS]))
        if held:
            shares.append(len(words & held) / len(words))
        score = 1.0 - max(shares)
        return Finding(score=score, reason=f"shares {max(shares):.2f} with what was asked and found" if score else "")


def topics_configured(options: Mapping[str, object]) -> Topics:
    """`allowed`, `denied`: examples by topic, `{cooking: ["How long do I boil an egg?"]}`; at least one of the two."""
    read = Options(options, known=("allowed", "denied"))
    allowed, denied = read.groups("allowed"), read.groups("denied")
    if not allowed and not denied:
        raise read.fault("denied", "is missing, and so is allowed: there is nothing to compare with")
    return Topics(allowed=allowed, denied=denied)


def intent_configured(options: Mapping[str, object]) -> Intent:
    """`supported`, `unsupported`: examples by intent, `{booking: ["Book me a flight to Rome"]}`; at least one."""
    read = Options(options, known=("supported", "unsupported"))
    supported, unsupported = read.groups("supported"), read.groups("unsupported")
    if not supported and not unsupported:
        raise read.fault("unsupported", "is missing, and so is supported: there is nothing to compare with")
    return Intent(supported=supported, unsupported=unsupported)


def relevance_configured(options: Mapping[str, object]) -> Relevance:
    """No options."""
    Options(options)
    return Relevance()


def _held_against(text: str, good: Likeness | None, bad: Likeness | None, names: tuple[str, str]) -> Finding:
    score, reason = 0.0, ""
    if bad is not None:
        name, score = bad.nearest(text)
        reason = f"like the {names[1]} {name}" if name else ""
    if good is not None and stems(text[:MOST_CHARACTERS]):
        name, like = good.nearest(text)
        if 1.0 - like > score:
            score = 1.0 - like
            reason = f"nearest to the {names[0]} {name}" if name else f"like no {names[0]}"
    return Finding(score=score, reason=reason)


def _read_with_turns(subject: Subject) -> str:
    """The text; a question of a word or two is read with the one before it."""
    if subject.turns and len(stems(subject.text[:MOST_CHARACTERS])) < _FOLLOW_UP:
        return f"{subject.turns[-1]}\n{subject.text}"
    return subject.text
