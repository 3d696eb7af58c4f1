from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from anabranch_evaluation.domain.costs import Cost, Price, Prices, in_one_unit, usage_of
from anabranch_evaluation.domain.golden import GoldenQuestion, GoldenSet
from anabranch_evaluation.domain.ranking import Hit, ranking
from anabranch_evaluation.domain.runs import Scored, summary
from anabranch_evaluation.domain.squad import exact_match, token_f1
from anabranch_faults import Invalid, TooLarge
from anabranch_grounding import groundedness


def golden(*questions: GoldenQuestion, **changes: Any) -> GoldenSet:
    usual: dict[str, Any] = {"tenant": "t", "name": "g", "corpus": "c", "slices": ("group",)}
    return GoldenSet(**{**usual, **changes}, questions=questions)


def question(number: int, **changes: Any) -> GoldenQuestion:
    usual: dict[str, Any] = {"question_id": f"q{number}", "text": f"text {number}", "documents": {f"d{number}": 1}}
    return GoldenQuestion(**{**usual, **changes})


def test_the_version_of_a_golden_set_follows_from_its_content_in_any_order() -> None:
    one = golden(question(1), question(2))
    assert one.version == golden(question(2), question(1), name="other").version
    assert one.version != golden(question(1), question(3)).version
    assert GoldenSet.from_canonical(one.canonical(), tenant="t", name="g").canonical() == one.canonical()


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (golden(), "questions"),
        (golden(question(1), name="Not"), "name"),
        (golden(question(1), corpus=""), "corpus"),
        (golden(question(1), question(1)), "questions[1].question_id"),
        (golden(question(1, text=" ")), "questions[0].text"),
        (golden(question(1, documents={"d": 0})), "questions[0].relevant_documents"),
        (golden(question(1, documents={})), "questions[0]"),
        (golden(question(1, metadata={str(n): "" for n in range(17)})), "questions[0].metadata"),
    ],
)
def test_a_golden_set_that_measures_nothing_is_refused_by_field(broken: GoldenSet, field: str) -> None:
    with pytest.raises((Invalid, TooLarge)) as refused:
        broken.check()
    assert refused.value.field == field


def test_a_document_stands_where_its_best_chunk_does_and_only_once() -> None:
    hits = [Hit(document_id=d, chunk_id=c, text="") for d, c in (("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"))]
    assert ranking(hits, of_chunks=False) == ["a", "b", "c"]
    assert ranking(hits, of_chunks=True) == ["a1", "b1", "a2", "c1"]


def test_equal_scores_give_equal_bits_in_any_order() -> None:
    draw = random.Random(1)  # noqa: S311  for scores, which are no secret
    questions = [question(n, metadata={"group": str(n % 3)}) for n in range(80)]
    scored = {
        one.question_id: Scored(scores={"ndcg@10": draw.random()}, latency=timedelta(seconds=draw.random()))
        for one in questions
    }
    first = summary(golden(*questions), scored)
    keys = list(scored)
    draw.shuffle(keys)
    draw.shuffle(questions)
    assert summary(golden(*questions), {key: scored[key] for key in keys}) == first


def test_answers_are_matched_as_squad_does() -> None:
    assert exact_match("The Eiffel Tower!", "eiffel tower") == 1.0
    assert token_f1("in the year 1889", "1889") == pytest.approx(0.5)
    assert token_f1("", "1889") == 0.0


def test_costs_are_compared_in_one_unit_only() -> None:
    prices = Prices(known={"m": Price(prompt=1_000_000, completion=2_000_000), "house": Price(prompt=0, completion=0)})
    paid = prices.cost(usage_of(prompt_tokens=3, completion_tokens=4, model="m", backend="house"))
    free = prices.cost(usage_of(prompt_tokens=3, completion_tokens=4, model="x", backend="house"))
    other = prices.cost(usage_of(prompt_tokens=5, completion_tokens=0, model="x", backend="y"))
    assert prices.cost(usage_of(prompt_tokens=0, completion_tokens=0, model="m", backend="")) is None
    assert (paid, free) == (Cost(tokens=7, microdollars=11), Cost(tokens=7, microdollars=0))
    charged = prices.cost(usage_of(prompt_tokens=3, completion_tokens=4, model="m", backend="house", charged=20))
    repeated = prices.cost(usage_of(prompt_tokens=0, completion_tokens=0, model="", backend="", charged=0))
    assert (charged, repeated) == (Cost(tokens=7, microdollars=20), Cost(tokens=0, microdollars=0))
    assert in_one_unit([paid, None], [free]) == ("microdollars", [[11], [0]])
    assert in_one_unit([paid], [other, free]) == ("tokens", [[7], [5, 7]])


PASSAGES = ["The tower was finished in 1889. It is 330 metres tall.", "Maria Oliveira designed the harbour in Porto."]


@pytest.mark.parametrize(
    ("answer", "contradiction"),
    [
        ("The tower was finished in 1889.", ()),
        ("The tower was finished in 1925.", ("number",)),
        ("The tower was not finished in 1889.", ("negation",)),
        ("The tower was finished in 1889 by Gustave.", ("name",)),
    ],
)
def test_an_answer_is_held_against_numbers_negations_and_names(answer: str, contradiction: tuple[str, ...]) -> None:
    found = groundedness(answer, PASSAGES)
    (sentence,) = found.sentences
    assert sentence.contradictions == contradiction
    assert sentence.passage == 0
    assert found.score == 1.0 if not contradiction else found.score <= 0.6


def test_an_answer_from_elsewhere_is_not_grounded() -> None:
    assert groundedness("Bananas ripen quickly near apples.", PASSAGES).score == 0.0
