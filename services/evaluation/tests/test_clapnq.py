"""Offline runs over real questions, half of which their corpus does not answer: CLAP NQ, where it is at hand."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from anabranch_evaluation.adapters.golden_sets import SqlGoldenSets
from anabranch_evaluation.adapters.judging import LibraryJudge
from anabranch_evaluation.adapters.runs import SqlRuns
from anabranch_evaluation.application.datasets import KeepGoldenSets
from anabranch_evaluation.application.ports import Written
from anabranch_evaluation.application.running import RunVariant
from anabranch_evaluation.bootstrap import database_of
from anabranch_evaluation.domain.golden import GoldenQuestion, GoldenSet
from anabranch_evaluation.domain.ranking import Found, Hit
from anabranch_evaluation.domain.runs import Run, RunState, Variant
from anabranch_grounding import stems
from anabranch_store import Database

EACH: Final = 60
"""Questions of each half: enough for what is shown here, and quick."""


def _folder() -> Path:
    return Path(os.environ.get("ANABRANCH_DATA", Path(__file__).parents[4] / "shared" / "data")) / "qa_clapnq"


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_folder() / name).read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Library:
    """Passages of CLAP NQ, found by the words they share with a question. No neighbour is needed to score a run."""

    passages: Sequence[tuple[str, str, frozenset[str]]]

    async def generation(self, tenant: str, corpus: str) -> int:
        return 1

    async def find(
        self, *, tenant: str, corpus: str, query: str, variant: Variant, depth: int, to_write: bool = False
    ) -> Found:
        words = set(stems(query))
        best = sorted(self.passages, key=lambda one: (-len(words & one[2]), one[0]))[:depth]
        return Found(
            hits=[Hit(document_id=key, chunk_id=f"{key}#0", text=text) for key, text, _ in best],
            index_generation=1,
            reranker="",
            latency=timedelta(milliseconds=1),
        )


@dataclass(frozen=True)
class Writer:
    """`candid`: says that it does not know wherever the question is one of these; else it always answers."""

    unknown: frozenset[str]

    async def write(self, *, question: str, hits: Sequence[Hit], variant: Variant) -> Written:
        if variant.variant_id == "candid" and question in self.unknown:
            return Written(text="The documents do not answer this.", abstained=True)
        if variant.variant_id == "silent":
            return Written(text="The documents do not answer this.", abstained=True)
        return Written(text=hits[0].text.split(" . ")[0] + ".", abstained=False)


class Variants:
    async def variant(self, variant_id: str) -> Variant:
        return Variant(variant_id=variant_id, retrieval=None, generation=None)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = database_of(f"sqlite:///{tmp_path / 'runs.db'}")
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
def golden() -> GoldenSet:
    if not _folder().is_dir():
        pytest.skip("needs qa_clapnq in the folder that ANABRANCH_DATA names")
    queries = _rows("queries.jsonl")
    chosen = [row for wanted in (True, False) for row in [one for one in queries if one["answerable"] is wanted][:EACH]]
    return GoldenSet(
        tenant="t",
        name="clapnq",
        corpus="c",
        slices=("answerable",),
        questions=tuple(
            GoldenQuestion(
                question_id=row["_id"],
                text=row["text"],
                answers=tuple(one["answer"] for one in row["long_answers"]) if row["answerable"] else (),
                documents=dict.fromkeys(row["paragraph_ids"], 1) if row["answerable"] else {},
                metadata={"answerable": "yes" if row["answerable"] else "no"},
                unanswerable=not row["answerable"],
            )
            for row in chosen
        ),
    )


@pytest.fixture
async def run(database: Database, golden: GoldenSet) -> RunVariant:
    sets = SqlGoldenSets(database)
    await KeepGoldenSets(sets=sets).put(golden, author="ada")
    return RunVariant(
        sets=sets,
        runs=SqlRuns(database),
        search=Library([(row["_id"], row["text"], frozenset(stems(row["text"]))) for row in _rows("corpus.jsonl")]),
        writer=Writer(frozenset(one.text for one in golden.questions if one.unanswerable)),
        variants=Variants(),
        judge=LibraryJudge(),
    )


def values(run: Run, group: str = "") -> dict[str, tuple[float, int]]:
    return {one.name: (one.value, one.questions) for one in run.metrics if one.slice == group}


async def ended(run: RunVariant, golden: GoldenSet, variant: str) -> Run:
    done = await run.finished(golden, Variant(variant_id=variant, retrieval=None, generation=None), answers=True)
    assert done.state is RunState.DONE
    return done


async def test_abstention_is_right_for_unanswerable_questions_and_wrong_for_others(
    run: RunVariant, golden: GoldenSet
) -> None:
    found = {variant: await ended(run, golden, variant) for variant in ("candid", "bold", "silent")}
    whole = {variant: values(one)["abstention"] for variant, one in found.items()}
    assert whole == {"candid": (1.0, 2 * EACH), "bold": (0.5, 2 * EACH), "silent": (0.5, 2 * EACH)}
    by_half = {
        variant: tuple(values(one, f"answerable={half}")["abstention"][0] for half in ("yes", "no"))
        for variant, one in found.items()
    }
    assert by_half == {"candid": (1.0, 1.0), "bold": (1.0, 0.0), "silent": (0.0, 1.0)}


async def test_unanswerable_questions_are_in_no_other_metric_of_answers_or_rankings(
    run: RunVariant, golden: GoldenSet
) -> None:
    bold, silent = await ended(run, golden, "bold"), await ended(run, golden, "silent")
    for name in ("em", "f1", "rouge_l", "bleu", "chrf", "ndcg@10", "recall@10"):
        assert values(bold)[name][1] == EACH
        assert values(bold)[name] == values(bold, "answerable=yes")[name]
        assert name not in values(bold, "answerable=no")
    # An abstention is no answer: its words earn nothing, and it is grounded in nothing.
    assert values(silent)["f1"] == values(silent)["chrf"] == (0.0, EACH)
    assert "groundedness" not in values(silent)
    # What is copied from a passage is grounded, whether it answers or not.
    assert values(bold)["groundedness"][1] == 2 * EACH
    assert values(bold)["groundedness"][0] > 0.95
    assert 0.1 < values(bold)["f1"][0] < 0.9
    assert values(bold)["recall@10"][0] > 0.6


async def test_a_run_gives_equal_bits_however_many_questions_are_asked_at_once(
    run: RunVariant, golden: GoldenSet
) -> None:
    first = await ended(run, golden, "candid")
    turned = RunVariant(
        sets=run.sets,
        runs=run.runs,
        search=run.search,
        writer=run.writer,
        variants=run.variants,
        judge=run.judge,
        at_once=13,
    )
    other = GoldenSet(
        tenant="t", name="turned", corpus="c2", slices=golden.slices, questions=tuple(reversed(golden.questions))
    )
    second = await ended(turned, other, "candid")
    # Each search took its own time; every score is the same.
    scores = [{key: one.scores for key, one in run.questions.items()} for run in (first, second)]
    assert scores[0] == scores[1]
    assert [one for one in first.metrics if "latency" not in one.name] == [
        one for one in second.metrics if "latency" not in one.name
    ]
