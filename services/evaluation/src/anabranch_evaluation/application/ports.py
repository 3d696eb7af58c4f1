"""What the use cases need of the world."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from anabranch_evaluation.domain.costs import Usage
from anabranch_evaluation.domain.gates import Gate
from anabranch_evaluation.domain.golden import GoldenEntry, GoldenQuestion, GoldenSet
from anabranch_evaluation.domain.ranking import Found, Hit
from anabranch_evaluation.domain.runs import Run, RunKey, Variant
from anabranch_grounding import Meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An answer drawn from passages."""

    text: str
    abstained: bool
    usage: Usage | None = None


class GoldenSets(Protocol):
    """Golden sets by tenant and name; the version put last holds, earlier ones stay readable."""

    async def put(self, golden: GoldenSet, *, author: str, at: datetime) -> None:
        """Stores it; the same content under the same name again changes nothing."""

    async def latest(self, tenant: str, name: str) -> GoldenSet:
        """Raises NotFound when the tenant has none of that name."""

    async def version(self, tenant: str, version: str) -> GoldenSet:
        """Raises NotFound."""

    async def entries(self, tenant: str) -> Sequence[GoldenEntry]:
        """All of the tenant's, by name."""


class Runs(Protocol):
    """Runs with every question's scores."""

    async def begin(self, run: Run) -> None:
        """Stores a run that has begun."""

    async def progress(self, run_id: str, done: int) -> None:
        """How many questions are done."""

    async def finish(self, run: Run) -> None:
        """Stores how it ended, its metrics and every question's scores."""

    async def get(self, run_id: str) -> Run:
        """The run with every question's scores. Raises NotFound."""

    async def page(self, tenant: str, *, dataset: str, count: int, before: int) -> tuple[Sequence[Run], int]:
        """Runs, newest first, without questions; and where the next page begins, 0 at the end."""

    async def done(self, key: RunKey, *, index_generation: int) -> Run | None:
        """A finished run that says all there is to say, if one was made."""

    async def beat(self, run_ids: Collection[str]) -> None:
        """Tells that these go on: each one's count of beats grows."""

    async def running(self) -> Mapping[str, int]:
        """Run id -> beats, of all that are running in any process."""

    async def abandon(self, run_id: str, *, beats: int, problem: str) -> bool:
        """Fails a run that is still running and has not beaten since `beats`; whether it was so."""


class Gates(Protocol):
    """Verdicts; what is stored is told, once."""

    async def decided(self, gate_id: str) -> Gate | None:
        """The verdict given before, if any."""

    async def decide(self, gate: Gate) -> Gate:
        """Stores and tells it, unless there is one of that id: then that one holds. Gives the one that holds."""


class Search(Protocol):
    """The index, searched as a variant says."""

    async def generation(self, tenant: str, corpus: str) -> int:
        """The corpus's index generation. Raises NotFound when the tenant has no such corpus."""

    async def find(
        self, *, tenant: str, corpus: str, query: str, variant: Variant, depth: int, to_write: bool = False
    ) -> Found:
        """The best passages, at least `depth` where there are as many; `to_write`: with all that a Writer wants.

        Raises NotFound, Unreachable.
        """


class Writer(Protocol):
    """Draws answers from passages, as a variant says."""

    async def write(self, *, question: str, hits: Sequence[Hit], variant: Variant) -> Written:
        """The whole answer."""


class Variants(Protocol):
    """The registry's bundles."""

    async def variant(self, variant_id: str) -> Variant:
        """Raises NotFound."""


class Judge(Protocol):
    """Scores of rankings and answers. Pure: equal input, equal bits."""

    def rankings(
        self, ranked: Mapping[str, Sequence[str]], relevant: Mapping[str, Mapping[str, int]]
    ) -> Mapping[str, Mapping[str, float]]:
        """Question id -> metric -> score, for every question of `relevant`; one without a ranking scores 0."""

    def texts(self, question: GoldenQuestion, written: Written, contexts: Sequence[str]) -> Sequence[str]:
        """The texts whose meaning `answer` asks for."""

    def answer(
        self, question: GoldenQuestion, written: Written, contexts: Sequence[str], meaning: Meaning | None = None
    ) -> Mapping[str, float]:
        """Metric -> score, of the metrics that are defined for the question; `similarity` only with meaning."""
