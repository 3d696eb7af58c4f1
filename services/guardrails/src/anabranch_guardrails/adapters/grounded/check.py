"""The check `groundedness`: what an answer says that the passages do not bear out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from anabranch_grounding import SCORER_VERSION
from anabranch_guardrails.adapters.grounded.features import features
from anabranch_guardrails.adapters.grounded.head import Head, packaged
from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Subject

VERSION: Final = f"groundedness-1+{SCORER_VERSION}"
MOST_CHARACTERS: Final = 10_000
"""Of an answer that are compared; the finding says so where there are more."""
MOST_HELD: Final = 200_000
"""Characters of passages that it is compared with, first passages first."""
_REASONS: Final = (
    ("numbers_missing", "numbers"),
    ("names_missing", "names"),
    ("negations_turned", "negations"),
)


class Groundedness:
    """Finds answers that the passages do not bear out: by words, and by numbers, names and negations that differ."""

    name = "groundedness"

    def __init__(self, head: Head) -> None:
        """Judges by this head."""
        self._head = head

    @property
    def version(self) -> str:
        """Of the features and of the head."""
        return f"{VERSION}+{self._head.version}"

    def look(self, subject: Subject) -> Finding:
        """1 less how surely it is borne out. Without passages there is nothing to compare with: 0."""
        if subject.abstained or not subject.contexts or not subject.text.strip():
            return Finding(score=0.0, reason="nothing to compare")
        contexts, left = _held(subject)
        found = features(subject.text[:MOST_CHARACTERS], contexts)
        score = 1.0 - self._head.borne_out(found)
        reasons = [f"{found['support']:.2f} of its words"]
        reasons += [f"{found[name]:.0f} {what} of its own" for name, what in _REASONS if found[name]]
        if len(subject.text) > MOST_CHARACTERS or left <= 0:
            reasons.append(f"only {MOST_CHARACTERS} characters against {MOST_HELD} were compared")
        return Finding(score=score, reason="; ".join(reasons))

    def prepare(self, subject: Subject) -> None:
        """Reads the passages while the answer is still being written; what is read is remembered for a while."""
        features("ready", _held(subject)[0])


def _held(subject: Subject) -> tuple[list[str], int]:
    """The passages that an answer is compared with, and how many more characters there would be room for."""
    contexts: list[str] = []
    left = MOST_HELD
    for context in subject.contexts:
        contexts.append(context.text[:left])
        left -= len(contexts[-1])
        if left <= 0:
            break
    return contexts, left


def configured(options: Mapping[str, object]) -> Groundedness:
    """No options."""
    Options(options)
    return Groundedness(packaged())
