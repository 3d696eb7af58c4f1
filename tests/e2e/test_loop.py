"""The stream bends back: a harmful candidate is refused, an answer is traced. The demo, tested too, promotes one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from anabranch_testkit.platform import RunningPlatform

pytestmark = [pytest.mark.connected, pytest.mark.slow, pytest.mark.timeout(420)]

ADJECTIVES = ("amber", "brisk", "calm", "dusty", "early", "faint", "grand", "hollow", "icy", "jagged", "keen", "lonely")
NOUNS = ("harbour", "mill", "tower", "orchard", "quarry", "bridge", "museum", "station", "garden", "library", "market")
FACTS = (
    ("opens", "What time does the {name} open?", "The {name} opens at {n} in the morning."),
    ("founded", "In which year was the {name} founded?", "The {name} was founded in the year 18{n}."),
    ("height", "How tall is the {name}?", "The {name} is {n} metres tall."),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus in BEIR layout whose right passages are easy to tell and whose wrong ones are many."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = random.Random(7)  # noqa: S311  not for secrets
    documents, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for adjective in ADJECTIVES:
        for noun in NOUNS:
            name = f"{adjective} {noun}"
            for kind, question, fact in FACTS[: 1 + rng.randrange(3)]:
                document = f"{adjective}-{noun}-{kind}"
                text = fact.format(name=name, n=rng.randint(10, 99))
                documents.append(
                    {"_id": document, "title": name, "text": f"{text} Visitors ask about the {noun} often."}
                )
                queries.append({"_id": f"q-{document}", "text": question.format(name=name)})
                qrels.append(f"q-{document}\t{document}\t1")
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels.tsv").write_text("\n".join(qrels) + "\n")
    return folder


def test_a_candidate_trained_on_reversed_labels_is_never_promoted(embedded: RunningPlatform, dataset: Path) -> None:
    report = embedded.json(
        "loop", "simulate", "--corpus", "loop-sabotage", "--dataset", str(dataset), "--users", "60", "--events", "300",
        "--experiment-asks", "1500", "--sabotage", timeout=400,
    )  # fmt: skip

    assert report["promoted"] is False
    assert report["state"] == "rejected"
    assert report["after"] == pytest.approx(report["baseline"], abs=1e-6)
    timeline = embedded.json("loop", "--corpus", "loop-sabotage")
    assert {run["state"] for run in timeline["trainings"]} == {"TRAINING_STATE_DONE"}
    assert {"model", "dataset", "candidate", "gate"} <= {change["subject_kind"] for change in timeline["changes"]}
    assert sum(int(each["count"]) for each in timeline["feedback"]["counts"]) == 300


def test_an_answer_can_be_walked_down_to_what_caused_it(embedded: RunningPlatform, dataset: Path) -> None:
    embedded.json("put", str(dataset / "corpus.jsonl"), "--corpus", "loop-lineage", "--wait")
    answer = embedded.json("ask", "How tall is the amber harbour?", "--corpus", "loop-lineage", "--user", "ada")
    given = embedded.json("feedback", answer["answer_id"], "--up", "--user", "ada")

    found = embedded.json("lineage", answer["answer_id"])

    assert found["cause"]["variant_id"] == answer["variant"]
    assert [each["feedback_id"] for each in found["feedback"]] == [given["feedback_id"]]
    assert found["cause"]["chunks"][0]["document"]["document_id"]
    assert answer["variant"] in {node["id"] for node in found["nodes"]}
