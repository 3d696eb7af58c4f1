from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_gateway.application.estimating import Estimator, Lengths, prompt_bound


def of(estimator: Estimator, **options: object) -> int:
    return estimator.estimate(variant_id="v", model="m", **options).completion  # type: ignore[arg-type]  # options by name


def learn(estimator: Estimator, *lengths: int, cut: bool = False) -> None:
    for length in lengths:
        estimator.observe(variant_id="v", model="m", completion_tokens=length, cut=cut)


class TestAnswers:
    def test_what_the_caller_declares_is_what_is_reserved(self) -> None:
        estimator = Estimator()
        learn(estimator, *[10] * 100)
        assert of(estimator, max_tokens=77) == 77

    def test_before_enough_answers_are_known_the_most_is_taken(self) -> None:
        estimator = Estimator(most=500, enough=3)
        learn(estimator, 10, 10)
        assert of(estimator) == 500
        learn(estimator, 10)
        assert of(estimator) < 500
        assert estimator.estimate(variant_id="other", model="m").completion == 500

    def test_nearly_all_answers_fit_and_less_than_the_most_is_set_aside(self) -> None:
        estimator, chance = Estimator(most=4_000), random.Random(1)  # noqa: S311  no secret
        lengths = [int(chance.lognormvariate(5, 0.5)) for _ in range(2_000)]
        learn(estimator, *lengths[:1_000])
        bound = of(estimator)
        assert sum(length <= bound for length in lengths[1_000:]) >= 0.98 * 1_000
        assert bound < 1_000

    def test_the_bound_rises_again_when_answers_are_cut_off_by_it(self) -> None:
        estimator = Estimator(most=2_000)
        learn(estimator, *[50] * 600)
        before = of(estimator)
        for _ in range(40):
            learn(estimator, min(900, of(estimator)), cut=of(estimator) < 900)
        assert of(estimator) >= 900 > before

    def test_a_cap_that_is_a_little_too_low_does_not_pull_itself_down(self) -> None:
        estimator, chance = Estimator(most=2_000, slack=1.0), random.Random(2)  # noqa: S311  no secret
        for _ in range(3_000):
            wanted, bound = int(chance.lognormvariate(5, 0.5)), of(estimator)
            learn(estimator, min(wanted, bound), cut=wanted > bound)
        wanted_p90 = sorted(int(chance.lognormvariate(5, 0.5)) for _ in range(2_000))[1_800]
        assert of(estimator) >= wanted_p90

    def test_memory_is_bounded(self) -> None:
        estimator = Estimator(kinds=3)
        for n in range(10):
            estimator.observe(variant_id=f"v{n}", model="m", completion_tokens=1, cut=False)
        assert len(estimator._lengths) == 3

    @pytest.mark.parametrize("options", [{"least": 0}, {"share": 0.0}, {"slack": 0.5}, {"least": 20, "most": 10}])
    def test_bounds_that_cannot_be_are_refused(self, options: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must hold"):
            Estimator(**options)


class TestPrompts:
    def test_an_exact_number_is_taken_as_it_is(self) -> None:
        assert Estimator().estimate(variant_id="v", model="m", texts=["x" * 99], prompt_tokens=7).prompt == 7

    @given(st.lists(st.text(alphabet=st.characters()), max_size=20))
    def test_the_bound_is_never_below_a_token_a_byte(self, texts: list[str]) -> None:
        assert prompt_bound(texts) >= sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


class TestLengths:
    @given(st.lists(st.integers(0, 1_000), min_size=1, max_size=80), st.floats(0.01, 1))
    def test_the_quantile_is_that_of_the_last_ones(self, lengths: list[int], share: float) -> None:
        some = Lengths(size=20)
        for length in lengths:
            some.add(length, cut=False)
        last = sorted(lengths[-20:])
        found = some.quantile(share)
        assert sum(each <= found for each in last) >= share * len(last) - 1e-9
        assert sum(each < found for each in last) < share * len(last)
