"""Whether answers are borne out by passages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from anabranch_faults import Invalid
from anabranch_guardrails.adapters.grounded import configured
from anabranch_guardrails.adapters.grounded.features import NAMES, features
from anabranch_guardrails.adapters.grounded.head import packaged, read
from anabranch_guardrails.domain import Context, Finding, Stage, Subject

PASSAGE = (
    "Hoosick is a town in Rensselaer County, New York, United States. The population was 6,924 at the 2010 census. "
    "It was named from the Hoosic River. The town is in the northeast corner of the county and was settled in 1688. "
    "The mayor, Anna Miller, opened the new bridge with the governor, Peter Jones, in May 1999."
)


def look(answer: str, *passages: str, abstained: bool = False) -> Finding:
    contexts = tuple(Context(text=text) for text in passages or (PASSAGE,))
    return configured({}).look(Subject(stage=Stage.OUTPUT, text=answer, contexts=contexts, abstained=abstained))


@pytest.mark.parametrize(
    "answer",
    [
        "Hoosick is a town in Rensselaer County, New York.",
        "The population of Hoosick was 6,924 at the 2010 census [1].",
        "6,924",
        "The town was named from the Hoosic River and settled in 1688.",
        "The mayor, Anna Miller, opened the new bridge in May 1999.",
    ],
)
def test_what_the_passages_say_passes(answer: str) -> None:
    assert look(answer).score < 0.5


@pytest.mark.parametrize(
    "answer",
    [
        "The population of Hoosick was 7,924 at the 2010 census.",
        "Hoosick is a town in Washington County, New York.",
        "Hoosick is not a town in Rensselaer County, New York.",
        "Hoosick is a town in Rensselaer County. Its football team won three national championships.",
        "The mayor, Anna Smith, opened the new bridge in May 1999.",
        "7,214",
        "Photosynthesis turns light into chemical energy in plants.",
    ],
)
def test_what_they_do_not_say_does_not(answer: str) -> None:
    assert look(answer).score >= 0.5


def test_another_number_makes_an_answer_worse_and_the_reason_says_of_what_kind_it_is() -> None:
    right = look("The population was 6,924 at the 2010 census.")
    wrong = look("The population was 6,925 at the 2010 census.")
    assert wrong.score > right.score
    assert "numbers" in wrong.reason
    assert "6,925" not in wrong.reason


def test_numbers_are_equal_however_they_are_written() -> None:
    assert look("Three bridges cost 6924 dollars.", "3 bridges cost 6,924.0 dollars.").score < 0.5


def test_without_passages_or_after_an_abstention_nothing_is_held_against_an_answer() -> None:
    check = configured({})
    assert check.look(Subject(stage=Stage.OUTPUT, text="Anything at all.")).score == 0.0
    assert look("I cannot answer that from the documents.", abstained=True).score == 0.0


def test_the_same_answer_gets_the_same_score_whatever_came_before() -> None:
    first = look("The town was settled in 1688.")
    look("Something else, quite different.")
    assert look("The town was settled in 1688.") == first


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_the_same_answer_gets_the_same_score_in_every_process(seed: str) -> None:
    answer = "The mayor of Hoosick did not open the river bridge in 2010 with the governor of the county."
    program = (
        "import sys; from anabranch_guardrails.adapters.grounded.features import features;"
        "print(list(features(sys.argv[1], [sys.argv[2]]).values()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, answer, PASSAGE],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == str(list(features(answer, [PASSAGE]).values()))


def test_every_feature_is_a_number_for_any_answer() -> None:
    for answer in ("", "?", "1", "No.", "Not. Never. None.", "ÀÉ 12,5 %", "word " * 500):
        assert list(features(answer, [PASSAGE, ""])) == list(NAMES)


def test_long_answers_against_long_passages_take_bounded_time() -> None:
    began = time.process_time()
    finding = look("The town was settled in 1688 by 12 people. " * 100_000, PASSAGE * 1_000)
    assert time.process_time() - began < 15.0
    assert "only 10000 characters" in finding.reason


def test_a_head_over_other_features_or_of_another_scorer_is_refused() -> None:
    good = {"format": "trees-1", "features": list(NAMES), "scorer": "gr-0", "bias": 0, "trees": [0.5]}
    with pytest.raises(Invalid, match="scorer"):
        read(json.dumps(good))
    with pytest.raises(Invalid, match="features"):
        read(json.dumps(good | {"features": ["x"]}))


def test_the_version_names_the_head() -> None:
    assert configured({}).version.endswith(packaged().version)


def test_passages_that_were_read_before_are_judged_alike() -> None:
    check, passages = configured({}), (Context(text=PASSAGE), Context(text="The river froze in 1709."))
    asked = Subject(stage=Stage.OUTPUT, text="Hoosick was settled in 1709 by Anna Miller.", contexts=passages)
    first = check.look(asked)
    check.prepare(Subject(stage=Stage.OUTPUT, text="", contexts=passages))
    assert check.look(asked) == first
