from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import Invalid
from anabranch_training.domain.opinions import Answered, Opinion, Said, ShownPassage
from anabranch_training.domain.runs import DatasetKind
from anabranch_training.domain.texts import TextDataset, build_text_dataset

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def answered(question: int, text: str, *, document: str = "") -> Answered:
    return Answered(
        answer_id=f"a-{question}-{text}",
        key=f"key-{question}",
        question=f"What of {question}?",
        text=text,
        passages=(ShownPassage(document=document or f"d-{question}", title="t", text="A passage.", cited=True),),
    )


def corrected(number: int, *, user: str = "", text: str = "Right.") -> Opinion:
    return Opinion(
        feedback_id=f"c-{number:04}-{user}",
        user=user or f"u-{number}",
        at=NOW,
        said=Said.CORRECTION,
        source="correction",
        answer=answered(number, "Wrong."),
        correction=text,
    )


def preferred(number: int, user: str, *, other: bool, first: str = "One.", second: str = "Two.") -> Opinion:
    return Opinion(
        feedback_id=f"p-{number:04}-{user}",
        user=user,
        at=NOW,
        said=Said.PREFERENCE,
        source="preference",
        answer=answered(number, first),
        other=answered(number, second),
        prefers_other=other,
    )


def judged(number: int, user: str, text: str, value: float) -> Opinion:
    return Opinion(
        feedback_id=f"j-{number:04}-{user}-{text}",
        user=user,
        at=NOW,
        said=Said.JUDGED,
        source="thumb",
        answer=answered(number, text),
        value=value,
    )


ENOUGH = [corrected(number) for number in range(100, 140)]


def preferences(opinions: Sequence[Opinion], **options: int) -> TextDataset:
    return build_text_dataset([*opinions, *ENOUGH], kind=DatasetKind.PREFERENCE, **options)


def of(made: TextDataset, question: int) -> list[tuple[str, str, int]]:
    rows = [row for row in (*made.rows, *made.held_out) if row.served.key == f"key-{question}"]
    return [(row.chosen, row.rejected, row.votes) for row in rows]


def test_a_correction_is_better_than_what_it_corrects_and_is_what_should_have_been_said() -> None:
    assert of(preferences([corrected(1)]), 1) == [("Right.", "Wrong.", 1)]
    made = build_text_dataset([corrected(1), *ENOUGH], kind=DatasetKind.SFT)
    assert of(made, 1) == [("Right.", "", 1)]
    assert made.sources == {"correction": 41}


def test_the_majority_holds_and_a_tie_teaches_nothing() -> None:
    opinions = [preferred(1, user, other=other) for user, other in (("a", True), ("b", True), ("c", False))]
    assert of(preferences(opinions), 1) == [("Two.", "One.", 1)]
    made = preferences(opinions[1:])
    assert of(made, 1) == []
    assert made.counts["dropped_as_contradicted"] == 1


def test_judged_answers_pair_only_where_everyone_agrees_about_each() -> None:
    opinions = [judged(1, "a", "Good.", 1), judged(1, "b", "Good.", 0.75), judged(1, "c", "Bad.", 0)]
    assert of(preferences(opinions), 1) == [("Good.", "Bad.", 3)]
    assert of(preferences([*opinions, judged(1, "d", "Bad.", 1)]), 1) == []
    assert of(preferences([*opinions[1:], judged(1, "d", "Good.", 0.5)]), 1) == []


def test_a_preference_between_answers_to_different_questions_or_between_equal_ones_is_left_out() -> None:
    stray = replace(preferred(1, "a", other=True), other=answered(2, "Two."))
    same = preferred(3, "a", other=True, first="Same  thing.", second="same thing.")
    made = preferences([stray, same])
    assert of(made, 1) == of(made, 2) == of(made, 3) == []
    assert (made.counts["dropped_as_other_question"], made.counts["dropped_as_same_answer"]) == (1, 1)


def test_nobody_says_more_than_the_cap() -> None:
    loud = [corrected(number, user="loud") for number in range(60)]
    made = preferences(loud, per_user_cap=10)
    assert made.counts["dropped_by_cap"] == 50
    assert len(made.rows) + len(made.held_out) == 50


def test_too_few_are_refused() -> None:
    with pytest.raises(Invalid, match="makes 9 rows") as raised:
        build_text_dataset(ENOUGH[:9], kind=DatasetKind.PREFERENCE)
    assert raised.value.reason == "TOO_FEW"


@given(st.randoms(use_true_random=False), st.integers(0, 1000))
def test_order_does_not_matter_and_nothing_leaks(chance: random.Random, seed: int) -> None:
    opinions = [
        replace(one, answer=replace(one.answer, passages=(ShownPassage(document=f"d-{n % 17}", title="", text="x"),)))
        for n, one in enumerate(ENOUGH)
    ]
    made = build_text_dataset(opinions, kind=DatasetKind.PREFERENCE, seed=seed)
    chance.shuffle(opinions)
    assert build_text_dataset(opinions, kind=DatasetKind.PREFERENCE, seed=seed) == made
    inside, outside = made.rows, made.held_out
    assert not {row.served.key for row in inside} & {row.served.key for row in outside}
    assert not {name for row in inside for name in row.about} & {name for row in outside for name in row.about}
