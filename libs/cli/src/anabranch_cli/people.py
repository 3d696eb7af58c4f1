"""Who is simulated: which questions are asked, and by whom, all drawn from the seed before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anabranch_cli.datasets import read_qrels, read_queries
from anabranch_faults import Invalid

__all__ = ["Person", "Plan", "Question", "halves", "people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is simulated."""

    corpus: str
    dataset: Path
    users: int
    events: int
    noise: float
    silent: float
    adversaries: float
    sabotage: bool
    seed: int
    experiment_asks: int
    patience: float
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and the documents that are right for it."""

    text: str
    question_id: str
    relevant: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One question to be: who asks what, where they look, whether they err or say nothing. Drawn before it is asked."""

    user: str
    question: Question
    place: float
    errs: bool
    hostile: bool
    silent: bool


def halves(plan: Plan) -> tuple[list[Question], list[Question]]:
    """Documents in two halves; a question belongs to a half when all that is right for it does.

    Returns the questions to ask and those kept unseen. Raises Invalid when there are too few.
    """
    qrels = read_qrels(plan.dataset / "qrels.tsv")
    documents = sorted({key for judged in qrels.values() for key, value in judged.items() if value > 0})
    rng = np.random.default_rng([plan.seed, 0])
    half = {documents[index] for index in rng.permutation(len(documents))[: len(documents) // 2]}
    asked, unseen = [], []
    for row in read_queries(plan.dataset / "queries.jsonl"):
        relevant = {key: value for key, value in qrels.get(row["_id"], {}).items() if value > 0}
        inside = sum(key in half for key in relevant)
        question = Question(text=row["text"], question_id=str(row["_id"]), relevant=relevant)
        if relevant and inside == len(relevant):
            asked.append(question)
        elif relevant and inside == 0:
            unseen.append(question)
    if len(asked) < 2 or len(unseen) < 2:  # noqa: PLR2004  nothing to compare
        raise Invalid("has too few judged questions to be split in two", field="dataset")
    return asked, unseen


def people(plan: Plan, asked: Sequence[Question], count: int, *, prefix: str = "user", each: int = 0) -> list[Person]:
    """Questions to be, until `count` of them get a reaction; the others are asked by people who say nothing.

    `each`: a new person after so many; 0: the plan's users, of whom the first are hostile.
    """
    rng = np.random.default_rng([plan.seed, 1, count])
    hostile = round(plan.adversaries * plan.users)
    drawn: list[Person] = []
    spoken = 0
    while spoken < count:
        number = len(drawn) // each if each else int(rng.integers(plan.users))
        silent = bool(rng.random() < plan.silent)
        spoken += not silent
        drawn.append(
            Person(
                user=f"{prefix}-{plan.seed}-{number}",
                question=asked[int(rng.integers(len(asked)))],
                place=float(rng.random()),
                errs=bool(rng.random() < plan.noise),
                hostile=bool(rng.random() < plan.adversaries) if each else number < hostile,
                silent=silent,
            )
        )
    return drawn
