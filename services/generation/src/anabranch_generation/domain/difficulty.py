"""How hard a question looks before anybody has answered it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from anabranch_generation.domain.values import Passage, Turn
from anabranch_generation.domain.vocabulary import vocabulary

FEATURES: Final = ("length", "numbers", "hops", "clauses", "reasons", "names", "nearness", "gap", "few", "history")
WEIGHTS: Final[Mapping[str, float]] = {
    "bias": -1.2,
    "length": 0.7,
    "numbers": 0.3,
    "hops": 1.1,
    "clauses": 0.8,
    "reasons": 0.9,
    "names": 0.2,
    "nearness": -2.4,
    "gap": -1.0,
    "few": 0.8,
    "history": 0.2,
}
"""Of a logistic model; set by hand: `bench/cascade.py` fits others to a log of drafts."""
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
_JOINING: Final = vocabulary("and or but while although because which that who whose where when")
_USUAL_WORDS: Final = 12
_ENOUGH: Final = 3


def features(question: str, passages: Sequence[Passage], history: Sequence[Turn] = ()) -> dict[str, float]:
    """What the estimate looks at, each about 0 to 1: the words of the question, and how clearly something was found."""
    words = [word.lower() for word in _WORD.findall(question)]
    near = sorted((s.similarity for p in passages for s in p.sentences if s.similarity is not None), reverse=True)
    scores = sorted((passage.score for passage in passages), reverse=True)
    spread = max(scores) - min(scores) if scores else 0.0
    return {
        "length": math.log1p(len(words) / _USUAL_WORDS),
        "numbers": float(any(word.isdigit() for word in words)),
        "hops": min(1.0, len(_HOPS.findall(question)) / 2),
        "clauses": min(1.0, sum(word in _JOINING for word in words[1:]) / 3),
        "reasons": float(bool(_REASONS.search(question))),
        "names": min(1.0, len(_NAME.findall(question)) / 3),
        "nearness": max(0.0, near[0]) if near else 0.5,
        "gap": (scores[0] - scores[1]) / spread if len(scores) > 1 and spread > 0 else 0.0,
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
