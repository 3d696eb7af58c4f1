"""How answers are scored against known ones: exact match, F1 and containment as SQuAD does, and abstention.

Source of the normalisation: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text".
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AnswerScores", "contains", "exact_match", "f1", "known_answers", "normalised"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def contains(text: str, answers: Iterable[str]) -> bool:
    """Whether one of the answers stands in the text, word for word after normalisation."""
    hay = f" {normalised(text)} "
    return any(f" {needle} " in hay for needle in map(normalised, answers) if needle)


def exact_match(text: str, answers: Iterable[str]) -> float:
    """1.0 when the text is one of the answers."""
    return float(any(normalised(text) == normalised(answer) for answer in answers))


def f1(text: str, answers: Iterable[str]) -> float:
    """Best harmonic mean of word precision and recall over the answers, 0 to 1."""
    return max((_f1(normalised(text).split(), normalised(answer).split()) for answer in answers), default=0.0)


def _f1(said: Sequence[str], known: Sequence[str]) -> float:
    shared = sum((Counter(said) & Counter(known)).values())
    return 2 * shared / (len(said) + len(known)) if shared else 0.0


def known_answers(query: Mapping[str, Any]) -> list[str]:
    """The answers a dataset's row holds: `answers`, or the texts of `long_answers`."""
    answers = [str(answer) for answer in query.get("answers") or ()]
    return answers or [str(long["answer"]) for long in query.get("long_answers") or () if long.get("answer")]


@dataclass(slots=True)
class AnswerScores:
    """Sums over questions. An answerable question that was abstained on scores 0 for everything but abstention."""

    em: list[float] = field(default_factory=list)
    f1: list[float] = field(default_factory=list)
    contains: list[bool] = field(default_factory=list)
    cited_when_contained: list[bool] = field(default_factory=list)
    answered_answerable: list[bool] = field(default_factory=list)
    abstained_unanswerable: list[bool] = field(default_factory=list)

    def add(self, query: Mapping[str, Any], *, text: str, abstained: bool, cited: Sequence[str]) -> None:
        """Scores one answer. `cited` are the texts of the cited spans."""
        answers = known_answers(query)
        if query.get("answerable", True):
            self.answered_answerable.append(not abstained)
            if answers:
                said = "" if abstained else text
                self.em.append(exact_match(said, answers))
                self.f1.append(f1(said, answers))
                inside = contains(said, answers)
                self.contains.append(inside)
                if inside:
                    self.cited_when_contained.append(any(contains(span, answers) for span in cited))
        else:
            self.abstained_unanswerable.append(abstained)

    def report(self) -> dict[str, float | int | None]:
        """Means; None where nothing was there to measure.

        citation_precision: of the answers that hold a known answer, the share in which a cited span holds it too.
        abstention_balanced_accuracy: mean of the shares of answerable questions answered and of unanswerable ones
        abstained on; None unless the dataset has both.
        """
        balanced = None
        if self.answered_answerable and self.abstained_unanswerable:
            balanced = (_mean(self.answered_answerable) + _mean(self.abstained_unanswerable)) / 2
        return {
            "em": _mean(self.em) if self.em else None,
            "f1": _mean(self.f1) if self.f1 else None,
            "contains": _mean(self.contains) if self.contains else None,
            "citation_precision": _mean(self.cited_when_contained) if self.cited_when_contained else None,
            "abstention_balanced_accuracy": balanced,
            "n": len(self.answered_answerable) + len(self.abstained_unanswerable),
        }


def _mean(values: Sequence[float | bool]) -> float:
    return sum(values) / len(values)
