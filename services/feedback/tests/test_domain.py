from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import numpy as np
import pytest
from hypothesis import given as holds_for
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import (  # type: ignore[import-untyped]  # it carries no types
    cohens_kappa,
    fleiss_kappa,
)

from anabranch_feedback.domain.agreement import agreement, cohen, fleiss, weighted_cohen
from anabranch_feedback.domain.answers import made_at
from anabranch_feedback.domain.given import (
    CitationJudgment,
    Correction,
    Given,
    Implicit,
    Preference,
    Rating,
    Review,
    Sign,
    Thumb,
    What,
)
from anabranch_feedback.domain.limits import RateLimit
from anabranch_feedback.domain.names import id_of
from anabranch_feedback.domain.refusals import Refusal, Refused
from anabranch_feedback.domain.sampling import Bars, Scored, Shares, sampled
from anabranch_feedback.testing import new_answer_id

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def given(what: What, *, user_id: str = "ada", comment: str = "") -> Given:
    return Given(tenant="acme", answer_id="a", user_id=user_id, what=what, comment=comment)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rating(stars=7), r"rating.stars: 7 is not on the scale"),
        (lambda: Rating(stars=0), r"rating.stars: 0 is not"),
        (lambda: Rating(stars=3, reasons=("Wrong!",)), r"rating.reasons: 'Wrong!' is no label"),
        (lambda: Rating(stars=3, reasons=("a",) * 17), r"17 labels are too many"),
        (lambda: Correction(text="x" * 1_000_000), r"correction.text: 1,000,000 characters are too many"),
        (lambda: Correction(text=" "), r"correction.text: is empty"),
        (lambda: given(Thumb(up=True), comment="x" * 4_097), r"comment: 4,097 characters are too many"),
        (lambda: given(Thumb(up=True), user_id=""), r"user_id: has 0 characters"),
        (lambda: given(Thumb(up=True), user_id="a\nb"), r"user_id: holds control characters"),
        (lambda: given(Preference(other_answer_id="a", prefers_other=True)), r"is the same answer"),
        (lambda: Implicit(sign=Sign.CITATION_OPENED), r"implicit.chunk_id: has 0 characters"),
        (lambda: Implicit(sign=Sign.DWELLED), r"implicit.dwell: is missing"),
        (lambda: Implicit(sign=Sign.DWELLED, dwell=timedelta(seconds=-1)), r"implicit.dwell: must be between"),
        (lambda: Review(stars=9), r"review.stars: 9 is not"),
        (lambda: Review(stars=3, ranking=("c", "c")), r"names a chunk twice"),
        (lambda: Review(stars=3, ranking=("c",), relevant=("d",)), r"must be chunks of the ranking"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(make: object, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        make()  # type: ignore[operator]  # the list is of functions
    assert refused.value.why is Refusal.INVALID


def test_a_changed_mind_is_the_same_feedback_and_another_chunk_is_another() -> None:
    assert given(Thumb(up=True)).feedback_id == given(Thumb(up=False)).feedback_id
    assert given(Thumb(up=True)).feedback_id != given(Thumb(up=True), user_id="bob").feedback_id
    one, other = (given(CitationJudgment(chunk_id=chunk, relevant=True)).feedback_id for chunk in ("c1", "c2"))
    assert one != other


def test_a_flood_is_stopped_a_trickle_is_not_and_a_backlog_counts_by_its_own_time() -> None:
    limit = RateLimit(per_minute=60, burst=3)
    assert [limit.take("t", "u", NOW) for _ in range(5)] == [True, True, True, False, False]
    assert limit.take("t", "v", NOW)
    assert limit.take("t", "u", NOW + timedelta(seconds=1))
    assert not limit.take("t", "u", NOW + timedelta(seconds=1))
    limit.give_back("t", "u")
    assert limit.take("t", "u", NOW + timedelta(seconds=1))
    slow = RateLimit(per_minute=60, burst=1)
    assert all(slow.take("t", "u", NOW + timedelta(seconds=n)) for n in range(100))
    off = RateLimit(per_minute=0, burst=1)
    assert all(off.take("t", "u", NOW) for _ in range(100))


def test_a_limit_forgets_those_unseen_for_longest() -> None:
    limit = RateLimit(per_minute=1, burst=1, most=2)
    assert [limit.take("t", user, NOW) for user in ("a", "b", "c", "a")] == [True] * 4


def test_an_answers_id_tells_when_it_was_made() -> None:
    assert made_at(new_answer_id(NOW)) == NOW
    assert made_at("6e0f3cbb-9d6c-4f39-9c3a-0f2b6c7b6a11") is None
    assert made_at("answer-1") is None


def test_a_sample_has_the_share_it_should_and_is_the_same_every_time() -> None:
    ids = [f"a{n}" for n in range(5_000)]
    chosen = [one for one in ids if sampled(one, "random", 0.2)]
    assert 900 < len(chosen) < 1_100
    assert chosen == [one for one in ids if sampled(one, "random", 0.2)]
    assert not any(sampled(one, "random", 0) for one in ids)
    assert all(sampled(one, "random", 1) for one in ids)


def test_cohens_kappa_is_that_of_statsmodels() -> None:
    rng = random.Random(3)  # noqa: S311  data, not a secret
    pairs = [(rng.random() < 0.6, rng.random() < 0.5) for _ in range(80)]
    pairs += [(good, good) for good in (rng.random() < 0.6 for _ in range(80))]
    table = np.zeros((2, 2))
    for one, other in pairs:
        table[int(one), int(other)] += 1
    oracle = cohens_kappa(table)
    kappa, error = cohen(pairs)
    assert (kappa, error) == pytest.approx((oracle.kappa, oracle.std_kappa))


def test_fleiss_kappa_is_that_of_statsmodels_and_its_interval_covers() -> None:
    rng = random.Random(5)  # noqa: S311  data, not a secret
    items = [(sum(rng.random() < (0.9 if n % 2 else 0.2) for _ in range(4)), 4) for n in range(60)]
    oracle = fleiss_kappa(np.array([[good, count - good] for good, count in items]))
    kappa, error = fleiss(items)
    assert kappa == pytest.approx(oracle)
    means = [fleiss([items[rng.randrange(60)] for _ in range(60)])[0] for _ in range(500)]
    assert error == pytest.approx(float(np.std(means)), rel=0.2)


def test_weighted_kappa_is_that_of_statsmodels() -> None:
    rng = random.Random(7)  # noqa: S311  data, not a secret
    pairs = [(star := rng.randint(1, 5), min(5, max(1, star + rng.randint(-2, 2)))) for _ in range(100)]
    table = np.zeros((5, 5))
    for one, other in pairs:
        table[one - 1, other - 1] += 1
    assert weighted_cohen(pairs) == pytest.approx(cohens_kappa(table, wt="quadratic").kappa)


def test_agreement_counts_only_answers_of_two_raters_and_is_not_defined_without() -> None:
    nobody = agreement({"a": {"r1": 5}})
    assert math.isnan(nobody.kappa)
    assert math.isnan(nobody.weighted)
    assert (nobody.answers, nobody.raters) == (0, 0)
    two = agreement({f"a{n}": {"r1": 1 + n % 5, "r2": 1 + n % 5} for n in range(10)} | {"b": {"r1": 1}})
    assert (two.kappa, two.weighted) == pytest.approx((1, 1))
    assert (two.answers, two.raters) == (10, 2)
    three = agreement({f"a{n}": {"r1": 5, "r2": 5 - n % 5, "r3": 1 + n % 5} for n in range(10)})
    assert three.raters == 3
    assert three.low <= three.kappa <= three.high


@holds_for(st.dictionaries(st.text(max_size=3), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5))))
def test_agreement_is_never_above_one(stars: dict[str, dict[str, int]]) -> None:
    found = agreement(stars)
    for kappa in (found.kappa, found.weighted):
        assert math.isnan(kappa) or kappa <= 1 + 1e-9


@pytest.mark.parametrize(
    ("scores", "agreement", "why"),
    [
        ({"groundedness": 0.49}, None, "low-score"),
        ({"groundedness": 0.5}, None, ""),
        ({"groundedness": 0.9, "judge": 0.2}, 0.5, "low-score"),
        ({"context_precision": 0.0}, None, ""),
        ({"groundedness": 0.9}, 0.6, "disagreement"),
        ({"groundedness": 0.9}, 0.7, ""),
        ({}, None, ""),
    ],
)
def test_raters_see_what_scored_low_where_that_counts_and_what_the_judge_is_torn_over(
    scores: dict[str, float], agreement: float | None, why: str
) -> None:
    bars = Bars(scores={"groundedness": 0.5, "judge": 0.5}, agreement=0.7)
    scored = Scored(tenant="acme", corpus="wiki", answer_id="a", scores=scores, agreement=agreement)
    assert bars.why(scored, Shares(low_score=1, disagreement=1)) == why
    assert bars.why(scored, Shares()) == ""


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        (Thumb(up=True), 1),
        (Thumb(up=False), -1),
        (Rating(stars=4), 1),
        (Rating(stars=3), 0),
        (Rating(stars=2), -1),
        (Correction(text="No: 1843."), -1),
        (Review(stars=5), 1),
        (Review(skipped=True), 0),
        (CitationJudgment(chunk_id="c", relevant=False), 0),
    ],
)
def test_a_feedback_calls_its_answer_good_or_not_or_does_not_say(what: What, verdict: int) -> None:
    assert Given(tenant="acme", answer_id="a", user_id="ada", what=what).verdict == verdict


@holds_for(st.uuids(), st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4))
def test_an_id_from_names_is_the_standard_one(namespace: UUID, parts: list[str]) -> None:
    assert id_of(namespace, *parts) == str(uuid5(namespace, "\n".join(parts)))
