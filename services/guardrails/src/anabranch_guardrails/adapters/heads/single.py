"""The checks `extraction` and `toxicity`: one head each, the best sentence decides."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from anabranch_guardrails.adapters.heads.linear import model
from anabranch_guardrails.adapters.heads.reading import logistic, read
from anabranch_guardrails.domain import Finding, Span, Stage, Subject

__all__ = ["Extraction", "Toxicity"]


class _OfOneHead:
    """Looks for the part of a text that its head finds most of."""

    name: ClassVar[str]
    kind: ClassVar[str]
    said: ClassVar[str]

    def __init__(self) -> None:
        stored = model(self.name)
        self._stage = stored["stages"][self.name]
        self.version: str = stored["version"]
        self.threshold: float = stored["threshold"]

    def look(self, subject: Subject) -> Finding:
        """How likely; the span is the sentence that says so."""
        best = 0.0
        span: tuple[int, int] | None = None
        how: tuple[str, ...] = ()
        for part in read(subject.text).parts:
            scores = part.scores[self.name]
            window = int(scores.argmax())
            features = np.asarray([scores[window], np.log1p(part.windows.single)], dtype=np.float32)
            score = logistic(features, self._stage)
            if score > best:
                best, span, how = score, part.span(window), part.layer.how
        if span is None or best < self.threshold:
            return Finding(score=best)
        said = self.said + (", read by " + ", then ".join(how) if how else "")
        return Finding(score=best, spans=(Span(start=span[0], end=span[1], kind=self.kind, score=best),), reason=said)


class Extraction(_OfOneHead):
    """Attempts to get at the system prompt."""

    name = "extraction"
    kind = "EXTRACTION"
    said = "asks for the assistant's own instructions"
    stages: Final = frozenset({Stage.INPUT})
    description: Final = "Attempts to make the assistant tell its system prompt."


class Toxicity(_OfOneHead):
    """Insults, slurs, threats and obscenity (English)."""

    name = "toxicity"
    kind = "TOXIC"
    said = "insulting, hateful or obscene"
    stages: Final = frozenset({Stage.INPUT, Stage.CONTEXT, Stage.OUTPUT})
    description: Final = "Insults, hate, threats and obscenity, in English."
