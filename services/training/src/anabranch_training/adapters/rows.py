"""Between rows and the domain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from anabranch_training.adapters.lines import judgment_from, judgment_json
from anabranch_training.application.ports import MadeDataset
from anabranch_training.domain import Judgment
from anabranch_training.domain.ratings import GoldQuestion, Taken
from anabranch_training.domain.runs import DatasetKind, Recipe, Run, RunState, Trigger

__all__ = [
    "dataset_from",
    "feedback_row",
    "gold_from",
    "gold_text",
    "judgments_from",
    "run_from",
    "run_row",
]

_MIDDLE = 0.5


def judgments_from(text: str) -> list[Judgment]:
    """All of a feedback's."""
    return [judgment_from(one) for one in json.loads(text or "[]")]


def feedback_row(one: Taken) -> dict[str, Any]:
    """A feedback's row. What teaches nothing names nobody and holds nothing."""
    return {
        "tenant": one.tenant,
        "feedback_id": one.feedback_id,
        "revision": one.revision,
        "corpus": one.corpus,
        "answer_id": one.answer_id if one.judgments else "",
        "usable": bool(one.judgments),
        "counted": False,
        "withdrawn": one.withdrawn,
        "denied": one.denied,
        "positive": sum(judgment.label > _MIDDLE for judgment in one.judgments),
        "negative": sum(judgment.label <= _MIDDLE for judgment in one.judgments),
        "given_at": one.at,
        "judgments": json.dumps([judgment_json(judgment) for judgment in one.judgments]) if one.judgments else "",
    }


def gold_text(questions: Sequence[GoldQuestion]) -> str:
    """Labels as JSON; empty for none."""
    return json.dumps([[one.question, sorted(one.relevant)] for one in questions]) if questions else ""


def gold_from(text: str) -> list[GoldQuestion]:
    """Labels from JSON."""
    return [GoldQuestion(question=question, relevant=frozenset(names)) for question, names in json.loads(text or "[]")]


def run_row(run: Run) -> dict[str, Any]:
    """What of a run changes."""
    return {
        "state": run.state.value,
        "problem": run.problem,
        "dataset_version": run.dataset_version,
        "model_version": run.model_version,
        "parameters": json.dumps(dict(run.parameters), sort_keys=True),
        "metrics": json.dumps(dict(run.metrics), sort_keys=True),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        **({"gold": ""} if run.finished_at is not None else {}),
    }


def run_from(row: Row[Any], *, gold: bool) -> Run:
    """A run as it stands."""
    return Run(
        run_id=row.run_id,
        tenant=row.tenant,
        corpus=row.corpus,
        recipe=Recipe(row.recipe),
        trigger=Trigger(row.trigger),
        author=row.author,
        reason=row.reason,
        queued_at=row.queued_at,
        seed=row.seed,
        gold=gold,
        reverse_labels=row.reverse_labels,
        withheld=row.withheld,
        state=RunState(row.state),
        problem=row.problem,
        dataset_version=row.dataset_version,
        model_version=row.model_version,
        parameters=json.loads(row.parameters),
        metrics=json.loads(row.metrics),
        started_at=row.started_at,
        finished_at=row.finished_at,
        number=row.number,
    )


def dataset_from(row: Row[Any]) -> MadeDataset:
    """A data set's entry."""
    return MadeDataset(
        version=row.dataset_version,
        digest=row.digest,
        tenant=row.tenant,
        corpus=row.corpus,
        counts=json.loads(row.counts),
        first=row.first_at,
        last=row.last_at,
        datasheet=row.datasheet,
        created_at=row.created_at,
        kind=DatasetKind(row.kind),
    )
