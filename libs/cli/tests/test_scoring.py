from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_cli.scoring import AnswerScores, contains, exact_match, f1, known_answers, normalised


def test_case_articles_and_punctuation_do_not_count() -> None:
    assert normalised("The  Quick, brown FOX!") == "quick brown fox"


def test_an_answer_is_found_only_as_whole_words() -> None:
    assert contains("It was built in 1912 by the city.", ["1912"])
    assert not contains("It was built in 19120.", ["1912"])
    assert not contains("anything", [""])


def test_f1_is_the_best_over_the_known_answers() -> None:
    assert f1("in New York City", ["New York", "Boston"]) == pytest.approx(2 * 2 / (4 + 2))


@given(st.text(min_size=1))
def test_a_text_matches_itself_fully_or_is_empty_once_normalised(text: str) -> None:
    assert exact_match(text, [text]) == 1.0
    assert f1(text, [text]) == (1.0 if normalised(text) else 0.0)


def test_long_answers_stand_in_where_short_ones_are_missing() -> None:
    assert known_answers({"long_answers": [{"answer": "A long one."}, {"answer": ""}]}) == ["A long one."]


def test_an_abstention_on_an_answerable_question_counts_as_wrong() -> None:
    scores = AnswerScores()
    scores.add({"answers": ["42"]}, text="42", abstained=False, cited=["the answer is 42"])
    scores.add({"answers": ["42"]}, text="Nothing found about 42.", abstained=True, cited=[])
    assert scores.report() == {
        "em": 0.5,
        "f1": 0.5,
        "contains": 0.5,
        "citation_precision": 1.0,
        "abstention_balanced_accuracy": None,
        "n": 2,
    }


def test_always_answering_is_worth_half_on_a_set_of_both_kinds() -> None:
    scores = AnswerScores()
    scores.add({"answerable": True, "answers": ["x"]}, text="x", abstained=False, cited=[])
    scores.add({"answerable": False}, text="x", abstained=False, cited=[])
    assert scores.report()["abstention_balanced_accuracy"] == 0.5
    assert scores.report()["citation_precision"] == 0.0
