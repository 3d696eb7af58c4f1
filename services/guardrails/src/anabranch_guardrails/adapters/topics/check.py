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
        text = _read_with_turns(subject)
        score, reason = 0.0, ""
        if self._denied is not None:
            topic, like = self._denied.nearest(text)
            if like > score:
                score, reason = like, f"like the denied topic {topic}"
        if self._allowed is not None and stems(text[:MOST_CHARACTERS]):
            topic, like = self._allowed.nearest(text)
            if 1.0 - like > score:
                score = 1.0 - like
                reason = f"nearest to the allowed topic {topic}" if topic else "like no allowed topic"
        return Finding(score=score, reason=reason)


class Intent:
    """Finds requests of a kind that is not served."""

    name = "intent"
    version = VERSION

    def __init__(self, unsupported: Mapping[str, tuple[str, ...]]) -> None:
        """Examples by intent."""
        self._unsupported = Likeness(unsupported) if unsupported else None

    def look(self, subject: Subject) -> Finding:
        """How like it is to the nearest."""
        if self._unsupported is None:
            return Finding(score=0.0)
        intent, like = self._unsupported.nearest(_read_with_turns(subject))
        return Finding(score=like, reason=f"like the unsupported intent {intent}" if intent else "")


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
    """`unsupported`: examples by intent, `{booking: ["Book me a flight to Rome"]}`."""
    read = Options(options, known=("unsupported",))
    unsupported = read.groups("unsupported")
    if not unsupported:
        raise read.fault("unsupported", "is missing: there is nothing to compare with")
    return Intent(unsupported)


def relevance_configured(options: Mapping[str, object]) -> Relevance:
    """No options."""
    Options(options)
    return Relevance()


def _read_with_turns(subject: Subject) -> str:
    """The text; a question of a word or two is read with the one before it."""
    if subject.turns and len(stems(subject.text[:MOST_CHARACTERS])) < _FOLLOW_UP:
        return f"{subject.turns[-1]}\n{subject.text}"
    return subject.text
