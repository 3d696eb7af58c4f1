from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_faults import Invalid
from anabranch_training.domain import GOLD, Judgment, build_ranking_dataset, propensities_of, screen

START = datetime(2026, 3, 1, tzinfo=UTC)


def crowd(
    count: int = 1200, *, users: int = 100, bad: int = 0, noise: float = 0.15, seed: int = 0, turned: bool = True
) -> list[Judgment]:
    """People who judge by the sum of three features; `bad` of them the other way round."""
    chance = np.random.default_rng(seed)
    found = []
    for number in range(count):
        user, features = int(chance.integers(users)), chance.normal(size=4)
        truth = float(features[:3].sum()) > 0
        wrong = turned if user < bad else chance.random() < noise
        rank = int(chance.choice(5, p=np.array([60, 30, 20, 15, 12]) / 137)) + 1
        found.append(
            Judgment(
                question=f"q{number % 150}",
                document=f"d{number % 150}-{chance.integers(3)}",
                chunk=f"c{number}",
                user=f"u{user}",
                label=float(truth != wrong),
                shown_rank=rank,
                randomised=False,
                features=tuple(features.tolist()),
                at=START + timedelta(minutes=number),
                source="citation",
            )
        )
    return found


def test_the_same_judgments_in_any_order_make_the_same_data_set() -> None:
    said = crowd()
    mixed = [said[index] for index in np.random.default_rng(5).permutation(len(said))]
    assert build_ranking_dataset(said, seed=3) == build_ranking_dataset(mixed, seed=3)


def test_a_user_counts_up_to_the_cap() -> None:
    said = [replace(one, user="eager") if number % 2 else one for number, one in enumerate(crowd())]
    found = build_ranking_dataset(said, per_user_cap=30)
    assert found.dropped_by_cap == 570
    assert found.counts["judgments"] + found.dropped_as_outlier == 630


def test_a_later_word_of_the_same_user_replaces_the_earlier_one() -> None:
    said = crowd()
    changed = [replace(one, label=1 - one.label, at=one.at - timedelta(days=30)) for one in said[:200]]
    found = build_ranking_dataset([*changed, *said])
    assert replace(found, counts={}) == replace(build_ranking_dataset(said), counts={})


def test_users_who_judge_the_other_way_round_are_left_out_and_honest_ones_kept() -> None:
    said = crowd(2500, users=250, bad=25)
    trust = screen(said).trust
    bad = np.array([int(one.user[1:]) < 25 for one in said])
    assert trust[bad].mean() < 0.1
    assert trust[~bad].mean() > 0.85
    assert build_ranking_dataset(said).dropped_as_outlier >= 0.9 * bad.sum()


def test_a_tenth_of_the_users_that_pushes_one_document_gets_little_of_the_weight() -> None:
    said = crowd(2500, users=250)
    pushed = [
        replace(one, document="pushed", label=1.0) if int(one.user[1:]) < 25 and number % 2 else one
        for number, one in enumerate(said)
    ]
    rows = build_ranking_dataset(pushed, held_out_share=0.0).rows
    weight = sum(row.weight for row in rows if row.document == "pushed")
    assert weight <= 0.021 * sum(row.weight for row in rows)


def test_the_noise_of_honest_users_is_estimated() -> None:
    for noise in (0.05, 0.15, 0.25):
        assert screen(crowd(3000, noise=noise)).noise == pytest.approx(noise, abs=0.06)


def test_ranks_that_are_judged_less_have_lower_propensities_and_weigh_more() -> None:
    said = crowd(4000)
    found = propensities_of(said)
    assert [found[rank] for rank in range(1, 6)] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5], abs=0.07)
    rows = build_ranking_dataset(said, held_out_share=0.0).rows
    deep, top = ([row.weight for row in rows if row.shown_rank == rank] for rank in (5, 1))
    assert sum(deep) / len(deep) > 1.5 * sum(top) / len(top)


LOOKED_AT = (1.0, 0.7, 0.5, 0.4, 0.3)  # the share of people who look so far down
TAKEN_UP = (0.9, 0.6, 0.35, 0.2, 0.1)  # how often the passage that belongs there is judged by who looks at it


def answers(count: int, *, explored: float, seed: int = 0) -> list[Judgment]:
    """Judgments of passages that are the likelier to be judged the better they are; of some, two changed places."""
    chance, found = np.random.default_rng(seed), []
    template = crowd(1)[0]
    for number in range(count):
        ranks = list(range(5))
        if swapped := chance.random() < explored:
            one, other = chance.choice(5, 2, replace=False)
            ranks[one], ranks[other] = ranks[other], ranks[one]
        for shown, rank in enumerate(ranks):
            if chance.random() < LOOKED_AT[shown] * TAKEN_UP[rank]:
                judged = replace(template, question=f"q{number}", chunk=f"c{number}-{rank}", user=f"u{number}")
                found.append(replace(judged, shown_rank=shown + 1, rank=rank + 1, randomised=bool(swapped)))
    return found


def test_passages_that_changed_places_by_lot_tell_the_pull_of_a_place_from_the_worth_of_a_passage() -> None:
    told = propensities_of(answers(40_000, explored=0.2, seed=1))
    assert [told[rank] for rank in range(1, 6)] == pytest.approx(LOOKED_AT, rel=0.15)
    without = propensities_of([replace(one, randomised=False) for one in answers(40_000, explored=0.0, seed=1)])
    assert without[5] < 0.5 * LOOKED_AT[4], "which is what they correct: bad passages are judged less, too"


def test_few_that_changed_places_leave_the_propensities_to_all() -> None:
    said = answers(2_000, explored=0.0)
    few = answers(100, explored=1.0, seed=2)
    assert len(few) < 200
    everyone = propensities_of([*said, *few])
    assert everyone == propensities_of([replace(one, randomised=False) for one in (*said, *few)])


@settings(max_examples=40)
@given(st.lists(st.integers(min_value=1, max_value=10), min_size=1, max_size=200))
def test_propensities_never_rise_with_depth(ranks: list[int]) -> None:
    one = crowd(1)[0]
    found = propensities_of([replace(one, shown_rank=rank) for rank in ranks])
    told = [found[rank] for rank in sorted(found)]
    assert told == sorted(told, reverse=True)
    assert told[0] == 1
    assert all(0 < value <= 1 for value in told)


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=0, max_value=10_000))
def test_no_question_and_no_document_of_a_held_out_question_is_learned_from(seed: int) -> None:
    found = build_ranking_dataset(crowd(400), seed=seed, held_out_share=0.3)
    assert not {row.question for row in found.rows} & {row.question for row in found.held_out}
    relevant = {row.document for row in found.held_out if row.label > 0.5}
    assert len(relevant & {row.document for row in found.rows}) < len(relevant)
    assert found.counts["judgments"] == len(found.rows) + len(found.held_out) + found.counts["dropped_as_leak"]


def test_gold_labels_are_neither_capped_nor_screened() -> None:
    said = [replace(one, source=GOLD, user="", shown_rank=0) for one in crowd(bad=100, turned=True)]
    found = build_ranking_dataset(said, per_user_cap=5)
    assert (found.dropped_by_cap, found.dropped_as_outlier, found.noise) == (0, 0, 0.0)
    assert found.sources == {GOLD: 1200}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda said: [replace(one, label=1.0) for one in said], "ONE_LABEL"),
        (lambda said: said[:5], "TOO_FEW"),
        (lambda _: [], "TOO_FEW"),
        (lambda said: [replace(said[0], features=(1.0,)), *said], "FEATURES"),
        (lambda said: [replace(said[0], features=(1.0, 2.0, 3.0, float("nan"))), *said], "FEATURES"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(spoil: Callable[[list[Judgment]], list[Judgment]], reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        build_ranking_dataset(spoil(crowd(300)))
    assert caught.value.reason == reason


def test_a_label_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(Invalid, match="between 0 and 1"):
        replace(crowd(1)[0], label=1.5)
