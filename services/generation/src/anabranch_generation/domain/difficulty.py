"""How hard a question looks before anybody has answered it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from anabranch_generation.domain.values import Passage, Turn
from anabranch_generation.domain.vocabulary import vocabulary
from anabranch_grounding import stems

FEATURES: Final = (
    "length", "numbers", "hops", "clauses", "reasons", "names", "choice", "uncovered", "spread", "gap", "few", "history"
)  # fmt: skip
WEIGHTS: Final[Mapping[str, float]] = {
    "bias": -1.801,
    "length": -0.037,
    "numbers": 0.295,
    "hops": 0.995,
    "clauses": 0.311,
    "reasons": -0.02,
    "names": 0.324,
    "choice": 0.699,
    "uncovered": 1.464,
    "spread": 1.068,
    "gap": 0.015,
    "few": 0.449,
    "history": 0.2,
}
"""Of a logistic model of where the extractive backend has no right answer, learned by `bench/cascade.py`."""
_WORD: Final = re.compile(r"\w+")
_NAME: Final = re.compile(r"(?<!^)(?<![.?!] )\b[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")
_HOPS: Final = re.compile(
    r"\b(?:whose|both|between|compare[ds]?|comparison|differences?|differ|versus|vs|than|same|respectively|after which"
    r"|before which|who (?:also|later)|that (?:also|later)|the \w+ (?:who|that|which|where|whose)"
    r"|(?:of|in|by) the \w+ of)\b",
    re.IGNORECASE,
)
_REASONS: Final = re.compile(
    r"\b(?:why|how (?:does|do|did|can|could|would|should)|explain|summari[sz]e|list|steps?|pros|cons|implications?"
    r"|if)\b",
    re.IGNORECASE,
)
_CHOICE: Final = re.compile(
    r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b|\b(?:which|who)\b.*\bor\b"
    r"|^which .*\b(?:first|more|older|larger)\b",
    re.IGNORECASE,
)
_JOINING: Final = vocabulary("and or but while although because which that who whose where when")
_USUAL_WORDS: Final = 12
_ENOUGH: Final = 3


def features(question: str, passages: Sequence[Passage], history: Sequence[Turn] = ()) -> dict[str, float]:
    """What the estimate looks at, each about 0 to 1: the words of the question, and how clearly something was found.

    `uncovered` is the share of the question's words that no single passage holds, `spread` the share that only several
    passages hold together, `gap` the distance of the best score from the second in the measure of all.
    """
    words = [word.lower() for word in _WORD.findall(question)]
    asked = set(stems(question))
    held = [asked & set(stems(f"{passage.title} {passage.text}")) for passage in passages]
    best = max(map(len, held), default=0)
    together = len(set().union(*held))
    scores = sorted((passage.score for passage in passages), reverse=True)
    width = scores[0] - scores[-1] if scores else 0.0
    return {
        "length": math.log1p(len(words) / _USUAL_WORDS),
        "numbers": float(any(word.isdigit() for word in words)),
        "hops": min(1.0, len(_HOPS.findall(question)) / 2),
        "clauses": min(1.0, sum(word in _JOINING for word in words[1:]) / 3),
        "reasons": float(bool(_REASONS.search(question))),
        "names": min(1.0, len(_NAME.findall(question)) / 3),
        "choice": float(bool(_CHOICE.search(question))),
        "uncovered": 1 - best / len(asked) if asked else 0.0,
        "spread": (together - best) / len(asked) if asked else 0.0,
        "gap": (scores[0] - scores[1]) / width if len(scores) > 1 and width > 0 else 0.0,
        "few": float(len(passages) < _ENOUGH),
        "history": min(1.0, len(history) / 6),
    }


def difficulty(
    question: str,
    passages: Sequence[Passage],
    history: Sequence[Turn] = (),
    weights: Mapping[str, float] = WEIGHTS,
) -> float:
    """The belief that a cheap model will not do, 0 to 1."""
    found = features(question, passages, history)
    logit = weights["bias"] + math.fsum(weights[name] * found[name] for name in FEATURES)
    return 1 / (1 + math.exp(-logit))
