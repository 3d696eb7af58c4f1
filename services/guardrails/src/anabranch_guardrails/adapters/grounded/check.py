"""The check `groundedness`: what an answer says that the passages do not bear out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from anabranch_grounding import SCORER_VERSION, groundedness
from anabranch_guardrails.adapters.options import Options
from anabranch_guardrails.domain import Finding, Subject

VERSION: Final = f"groundedness-1+{SCORER_VERSION}"
MOST_CHARACTERS: Final = 20_000
MOST_CONTEXT: Final = 400_000


class Groundedness:
    """Finds answers that the passages do not bear out."""

    name = "groundedness"
    version = VERSION

    def look(self, subject: Subject) -> Finding:
        """1 less the groundedness. Nothing to compare with: 0 without passages."""
        if not subject.contexts:
            return Finding(score=0.0, reason="no passages to compare with")
        found = groundedness(subject.text[:MOST_CHARACTERS], [c.text for c in subject.contexts])
        return Finding(score=1.0 - found.score)


def configured(options: Mapping[str, object]) -> Groundedness:
    """No options."""
    Options(options)
    return Groundedness()
