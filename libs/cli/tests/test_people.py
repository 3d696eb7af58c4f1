"""Who is simulated: the same people for the same seed, as many reactions as asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_cli.people import Plan, Question, halves, people
from anabranch_faults import Invalid

QUESTIONS = [Question(text=f"question {n}", question_id=f"q{n}", relevant={f"d{n}": 1}) for n in range(40)]


def plan(dataset: Path = Path(), **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "corpus": "c", "users": 50, "events": 100, "noise": 0.15, "silent": 0.2, "adversaries": 0.0, "sabotage": False,
        "seed": 0, "experiment_asks": 100, "patience": 1.0, "concurrency": 1, **changes,
    }  # fmt: skip
    return Plan(dataset=dataset, **fields)


@given(
    seed=st.integers(0, 1_000),
    count=st.integers(1, 300),
    silent=st.sampled_from([0.0, 0.2, 0.9]),
    each=st.sampled_from([0, 1, 3]),
)
def test_as_many_react_as_asked_for_and_a_seed_gives_the_same_people(
    seed: int, count: int, silent: float, each: int
) -> None:
    wanted = plan(seed=seed, silent=silent)
    crowd = people(wanted, QUESTIONS, count, each=each)
    assert sum(not person.silent for person in crowd) == count
    assert not crowd[-1].silent
    assert crowd == people(wanted, QUESTIONS, count, each=each)
    if each == 1:
        assert len({person.user for person in crowd}) == len(crowd)


def test_shares_come_out_as_asked_for() -> None:
    crowd = people(plan(adversaries=0.1, noise=0.15, silent=0.2), QUESTIONS, 20_000)
    shares = [sum(values) / len(crowd) for values in zip(*((p.errs, p.silent, p.hostile) for p in crowd), strict=True)]
    assert shares == pytest.approx([0.15, 0.2, 0.1], abs=0.01)
    assert len({person.user for person in crowd if person.hostile}) == 5


def a_dataset(folder: Path, judged: dict[str, list[str]]) -> Path:
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": key, "text": f"What of {key}?"}) + "\n" for key in judged)
    )
    rows = ["query-id\tcorpus-id\tscore", *(f"{key}\t{one}\t1" for key, found in judged.items() for one in found)]
    (folder / "qrels.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_nobody_asks_about_a_document_that_is_kept_unseen(tmp_path: Path) -> None:
    judged = {f"q{n}": [f"d{n}", f"d{n + 1}"] if n % 5 == 0 else [f"d{n}"] for n in range(60)}
    asked, unseen = halves(plan(a_dataset(tmp_path, judged)))
    of_asked, of_unseen = ({key for one in some for key in one.relevant} for some in (asked, unseen))
    assert asked
    assert unseen
    assert not of_asked & of_unseen


def test_a_dataset_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="too few judged questions"):
        halves(plan(a_dataset(tmp_path, {"q1": ["d1", "d2"]})))
