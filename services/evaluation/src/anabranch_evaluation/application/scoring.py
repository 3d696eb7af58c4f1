"""Scoring answers by words and, where sentences can be embedded, by meaning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol

from anabranch_evaluation.domain.scoring import Scores, score_answer, texts_of
from anabranch_faults import Transient
from anabranch_grounding import Meaning, Vector, version_of

PATIENCE: Final = timedelta(seconds=10)
"""How long the scores of a batch wait for vectors. Those that came until then are there the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is scored."""

    question: str
    answer: str
    contexts: Sequence[str]
    cited: Sequence[str] = ()
    abstained: bool = False


class Vectors(Protocol):
    """Unit vectors of sentences."""

    async def version(self) -> str:
        """The embedding version. Raises Transient."""

    async def of(self, texts: Sequence[str]) -> Mapping[str, Vector]:
        """Of each text that is not blank, always the same one. Raises Transient."""


class Reward(Protocol):
    """A model of what people prefer. Pure computation: the same words, the same score, anywhere."""

    @property
    def version(self) -> str:
        """Of the model."""

    def score(self, question: str, answer: str, contexts: Sequence[str]) -> float:
        """The chance that people prefer it to an average answer, 0 to 1."""


def _unheard(problem: str) -> None:
    del problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreAnswers:
    """Scores answers. Without vectors by words alone, and the scores' version says which it was.

    `missed` hears why vectors were missing where there should be some. `reward` adds the score of that name to answers
    that have others, and its version to the scorer's.
    """

    vectors: Vectors | None = None
    missed: Callable[[str], None] = _unheard
    reward: Reward | None = None

    async def __call__(self, answers: Sequence[Material]) -> list[Scores]:
        """The scores, in order."""
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                meaning = await self.meaning([text for one in answers for text in _texts(one)])
        except (Transient, TimeoutError) as fault:
            self.missed(str(fault) or "embedding takes longer than the scores of a batch may wait for it")
            meaning = None
        return await asyncio.to_thread(lambda: [self._scored(one, meaning) for one in answers])

    async def version(self) -> str:
        """Of the scorer. Raises Transient."""
        return self._named(version_of(None if self.vectors is None else await self.vectors.version()))

    def rewarded(self, one: Material) -> Mapping[str, float]:
        """`reward`, where there is a model for it and an answer."""
        if self.reward is None or one.abstained or not one.answer.strip() or not one.contexts:
            return {}
        return {"reward": self.reward.score(one.question, one.answer, one.contexts)}

    async def meaning(self, texts: Sequence[str]) -> Meaning | None:
        """What the texts mean; None where nothing is there to tell. Raises Transient."""
        if self.vectors is None:
            return None
        version = await self.vectors.version()
        return Meaning(version=version, vectors=await self.vectors.of(sorted(set(texts))))

    def _scored(self, one: Material, meaning: Meaning | None) -> Scores:
        found = score_answer(
            one.question, one.answer, one.contexts, cited=one.cited, abstained=one.abstained, meaning=meaning
        )
        scores = {**found.scores, **self.rewarded(one)}
        return replace(found, scores=scores, version=self._named(found.version))

    def _named(self, version: str) -> str:
        return version if self.reward is None else f"{version}+{self.reward.version}"


def _texts(one: Material) -> list[str]:
    return [] if one.abstained else texts_of(one.question, one.answer, one.contexts, cited=one.cited)
