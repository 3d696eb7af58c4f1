from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped] # scipy carries no types
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW  # type: ignore[import-untyped] # carries no types

from anabranch_evaluation.domain.statistics import (
    Bandit,
    Design,
    GateMode,
    GroupSequential,
    Mode,
    PromoteWhen,
    Sample,
    Split,
    Verdict,
    assess,
    confidence_sequence,
    cuped,
    decide,
    mean_guard,
    mean_interval,
    mean_ratio_guard,
    paired_gate,
    probability_best,
    quantile_ratio_guard,
    sample_ratio,
    whole_shares,
)
from anabranch_evaluation.domain.statistics.anytime import boundary, log_mixture
from anabranch_evaluation.domain.statistics.sample_ratio import log_evidence


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestGroupSequential:
    def test_boundaries_are_those_of_the_tables(self) -> None:
        # Lan-DeMets with O'Brien-Fleming spending, two-sided 0.05, five looks: as ldbounds and Reboussin et al. (2000).
        assert GroupSequential(looks=5).boundaries() == pytest.approx(
            (4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4
        )

    def test_one_look_is_the_plain_test(self) -> None:
        assert GroupSequential(looks=1).boundaries()[0] == pytest.approx(stats.norm.isf(0.025), abs=1e-6)

    @pytest.mark.parametrize("looks", [2, 10, 100])
    def test_everything_is_spent_at_the_horizon_and_nothing_more(self, looks: int) -> None:
        assert GroupSequential(looks=looks).crossing()[-1] == pytest.approx(0.05, abs=1e-6)

    def test_looks_at_other_times_than_planned_keep_the_error(self) -> None:
        fractions = (0.13, 0.2, 0.61, 1.2)
        bounds = np.array(GroupSequential().boundaries(fractions))
        times = np.minimum(fractions, 1.0)
        walk = (rng(3).standard_normal((200_000, 4)) * np.sqrt(np.diff(times, prepend=0))).cumsum(axis=1)
        assert (np.abs(walk / np.sqrt(times)) > bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.002)

    def test_a_look_is_due_once_per_planned_share(self) -> None:
        test = GroupSequential(looks=10)
        assert not test.due(0.09)
        assert test.due(0.1)
        assert not test.due(0.19, (0.1,))
        assert test.due(1.3, (0.95,))
        assert not test.due(1.4, (0.95, 1.3))

    def test_shares_that_do_not_grow_are_refused(self) -> None:
        with pytest.raises(ValueError, match="growing"):
            GroupSequential().boundaries((0.5, 0.5))


class TestConfidenceSequence:
    def test_without_a_peak_the_mixture_is_that_of_robbins(self) -> None:
        # sqrt(2 (t r + 1) / (t r) log(sqrt(t r + 1) / alpha)), Waudby-Smith et al. (2021), eq. 8. The
        # boundary is found on a mixture of |S|, which for peak 0 is the same.
        t = np.array([0.01, 0.3, 1.0, 7.0])
        r = 4.0 * t
        assert boundary(t, 0.05, peak=0.0, width=2.0) == pytest.approx(
            np.sqrt(2 * (r + 1) / r * np.log(np.sqrt(r + 1) / 0.05)), rel=1e-9
        )

    @given(time=st.floats(1e-4, 1e3), alpha=st.floats(1e-6, 0.3))
    @settings(max_examples=100, deadline=None)
    def test_at_the_boundary_the_evidence_is_one_over_alpha(self, time: float, alpha: float) -> None:
        z = boundary(time, alpha)
        assert float(log_mixture(z * np.sqrt(time), time)) == pytest.approx(-np.log(alpha), rel=1e-6)

    def test_the_evidence_is_a_martingale(self) -> None:
        # E exp(log M(S_t)) = 1 for S_t ~ N(0, t), by quadrature.
        at, weight = np.polynomial.hermite_e.hermegauss(120)
        for time in (0.05, 0.2):
            assert weight @ np.exp(log_mixture(at * np.sqrt(time), time)) / weight.sum() == pytest.approx(1.0, abs=1e-4)

    def test_it_is_wider_than_welchs_interval_and_has_its_centre(self) -> None:
        a, b = rng(1).normal(0.5, 0.1, 4000), rng(2).normal(0.52, 0.3, 2000)
        ours = confidence_sequence(Sample.of(a), Sample.of(b))
        low, high = CompareMeans(DescrStatsW(b), DescrStatsW(a)).tconfint_diff(usevar="unequal")
        assert ours.low < low < high < ours.high
        assert ours.difference == pytest.approx((low + high) / 2)
        assert (ours.high - ours.low) / (high - low) == pytest.approx(3.0 / 1.96, rel=0.2)

    def test_nothing_is_known_without_values(self) -> None:
        assert confidence_sequence(Sample.of([]), Sample.of([1.0])).low == -np.inf

    def test_a_few_equal_values_are_not_certain(self) -> None:
        assert confidence_sequence(Sample.of([0.0] * 3), Sample.of([1.0] * 3)).low < 0


class TestDecisions:
    def test_a_better_treatment_is_promoted_and_a_worse_one_is_not(self) -> None:
        low, high = Sample(count=3000, mean=0.4, variance=0.24), Sample(count=3000, mean=0.5, variance=0.25)
        assert decide(low, {"t": high}, Design()).verdict is Verdict.PROMOTE
        assert decide(high, {"t": low}, Design()).verdict is Verdict.KEEP_CONTROL

    def test_not_worse_asks_for_the_margin_only(self) -> None:
        same = Sample(count=4000, mean=0.5, variance=0.25)
        assert decide(same, {"t": same}, Design()).verdict is Verdict.GO_ON
        outcome = decide(same, {"t": same}, Design(promote_when=PromoteWhen.NOT_WORSE, margin=0.05))
        assert (outcome.verdict, outcome.arm) == (Verdict.PROMOTE, "t")

    def test_too_few_people_decide_nothing(self) -> None:
        few, sure = Sample(count=10, mean=0.0, variance=0.0), Sample(count=9000, mean=1.0, variance=0.0)
        assert decide(few, {"t": sure}, Design()).verdict is Verdict.GO_ON

    def test_the_control_stays_when_the_people_are_used_up(self) -> None:
        same = Sample(count=100, mean=0.5, variance=0.25)
        assert decide(same, {"t": same}, Design(max_users=200)).verdict is Verdict.KEEP_CONTROL
        assert decide(same, {"t": same}, Design(max_users=300)).verdict is Verdict.GO_ON

    def test_the_best_of_those_that_pass_is_promoted(self) -> None:
        arms = {name: Sample(count=5000, mean=mean, variance=0.2) for name, mean in {"a": 0.6, "b": 0.7}.items()}
        assert decide(Sample(count=5000, mean=0.4, variance=0.2), arms, Design()).arm == "b"

    def test_a_group_sequential_experiment_ends_at_its_horizon(self) -> None:
        same = Sample(count=1000, mean=0.5, variance=0.25)
        design = Design(mode=Mode.GROUP_SEQUENTIAL, horizon=1000)
        assert assess(same, same, design, looks=(0.5,)).verdict is Verdict.GO_ON
        assert assess(same, same, design, looks=(0.5, 1.0)).verdict is Verdict.KEEP_CONTROL
        assert assess(same, same, design).verdict is Verdict.GO_ON


class TestGate:
    def test_the_order_of_questions_changes_no_bit(self) -> None:
        a, b = rng(1).random(200), rng(2).random(200)
        order = rng(3).permutation(200)
        ids = [f"q{i}" for i in range(200)]
        first = paired_gate(a, b, mode=GateMode.IMPROVEMENT, ids=ids)
        assert first == paired_gate(a[order], b[order], mode=GateMode.IMPROVEMENT, ids=[ids[i] for i in order])

    def test_bounds_and_p_value_agree_with_the_paired_t_test(self) -> None:
        a = rng(4).random(400)
        b = a + rng(5).normal(0.01, 0.2, 400)
        gate = paired_gate(a, b, mode=GateMode.IMPROVEMENT)
        oracle = stats.ttest_rel(b, a, alternative="greater")
        interval = stats.ttest_rel(b, a).confidence_interval(0.9)
        assert gate.p_value == pytest.approx(oracle.pvalue, abs=0.02)
        assert (gate.low, gate.high) == pytest.approx((interval.low, interval.high), abs=2e-3)

    @given(shift=st.floats(-0.05, 0.05), margin=st.sampled_from([0.0, 0.01, 0.03]), seed=st.integers(0, 50))
    @settings(max_examples=40, deadline=None)
    def test_bound_and_p_value_say_the_same(self, shift: float, margin: float, seed: int) -> None:
        a = rng(seed).random(60)
        b = a + rng(seed + 99).normal(shift, 0.1, 60)
        better = paired_gate(a, b, mode=GateMode.IMPROVEMENT, margin=margin, resamples=999)
        assert better.passed == (better.p_value <= 0.05)
        worse = paired_gate(a, b, mode=GateMode.NO_REGRESSION, margin=margin, resamples=999)
        assert worse.passed == (worse.p_value > 0.05)

    def test_equal_runs_pass_only_where_no_gain_is_asked_for(self) -> None:
        a = rng(6).random(50)
        assert not paired_gate(a, a, mode=GateMode.IMPROVEMENT).passed
        assert paired_gate(a, a, mode=GateMode.IMPROVEMENT, margin=0.01).passed
        assert paired_gate(a, a, mode=GateMode.NO_REGRESSION).passed

    def test_a_gate_too_blunt_fails_as_undecided(self) -> None:
        gate = paired_gate(rng(7).random(20), rng(8).random(20), mode=GateMode.NO_REGRESSION, detectable=0.03)
        assert not gate.passed
        assert gate.reason.startswith("undecided")

    def test_one_question_decides_nothing_and_none_twice(self) -> None:
        assert not paired_gate([0.0], [1.0], mode=GateMode.NO_REGRESSION).passed
        with pytest.raises(ValueError, match="once"):
            paired_gate([0.0, 1.0], [1.0, 1.0], mode=GateMode.IMPROVEMENT, ids=["q", "q"])
        with pytest.raises(ValueError, match="pairs"):
            paired_gate([0.0, 1.0], [1.0], mode=GateMode.IMPROVEMENT)


def test_the_interval_of_a_mean_is_scipys_bca_in_any_order() -> None:
    values = rng(9).beta(0.5, 0.2, 300)
    ours = mean_interval(values, resamples=9_999)
    oracle = stats.bootstrap((values,), np.mean, method="BCa", rng=rng(1)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((oracle.low, oracle.high), abs=4e-3)
    assert mean_interval(values[::-1], resamples=9_999) == ours
    assert mean_interval([]).count == 0
    assert mean_interval([0.3, 0.3]).high == 0.3


class TestSampleRatio:
    def test_the_evidence_is_the_bayes_factor_of_dirichlet_multinomial(self) -> None:
        n = np.array([37, 63])
        oracle = stats.dirichlet_multinomial(np.array([250.0, 250.0]), 100).logpmf(n)
        assert float(log_evidence(n, [0.5, 0.5])) == pytest.approx(
            oracle - stats.multinomial(100, [0.5, 0.5]).logpmf(n)
        )

    def test_a_mismatch_is_seen_and_stays_seen(self) -> None:
        weights = {"a": 50.0, "b": 50.0}
        seen = sample_ratio([Split(counts={"a": 10_600, "b": 9_400}, weights=weights)])
        assert seen.mismatch
        even = [Split(counts={"a": 20_000, "b": 20_000}, weights=weights)]
        assert not sample_ratio(even).mismatch
        assert sample_ratio(even, before=seen.p_value).mismatch

    def test_people_in_an_arm_without_weight_are_a_mismatch(self) -> None:
        assert sample_ratio([Split(counts={"a": 5, "b": 1}, weights={"a": 100.0, "b": 0.0})]).mismatch

    def test_nobody_is_no_mismatch(self) -> None:
        assert sample_ratio([Split(counts={}, weights={"a": 1.0, "b": 1.0})]).p_value == 1.0


def test_a_covariate_takes_out_the_square_of_its_correlation_and_leaves_the_mean() -> None:
    x = rng(10).standard_normal(20_000)
    y = 0.7 * x + np.sqrt(0.51) * rng(11).standard_normal(20_000)
    adjusted = cuped(y, x)
    assert adjusted.variance_cut == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert adjusted.values.mean() == pytest.approx(y.mean())
    unknown = np.where(np.arange(20_000) % 2 == 0, x, np.nan)
    assert 0.2 < cuped(y, unknown).variance_cut < 0.3
    assert cuped(y, np.full(20_000, np.nan)).theta == 0.0


class TestGuards:
    def test_a_slower_arm_is_stopped_and_an_equal_one_is_not(self) -> None:
        control = rng(12).lognormal(4, 0.6, 400)
        assert quantile_ratio_guard(control, 2.5 * rng(13).lognormal(4, 0.6, 400), max_ratio=1.5).breached
        assert not quantile_ratio_guard(control, rng(14).lognormal(4, 0.6, 400), max_ratio=1.5).breached
        assert not quantile_ratio_guard(control[:20], 100 * control[:20], max_ratio=1.5).breached

    def test_at_the_limit_itself_a_look_every_20_people_rarely_stops_an_arm(self) -> None:
        stopped = 0
        for seed in range(60):
            a, b = rng(seed).lognormal(4, 0.6, 600), 1.5 * rng(seed + 500).lognormal(4, 0.6, 600)
            stopped += any(quantile_ratio_guard(a[:n], b[:n], max_ratio=1.5).breached for n in range(40, 601, 20))
        assert stopped <= 4

    def test_a_dearer_arm_and_a_worse_one_are_stopped(self) -> None:
        control = rng(15).gamma(2, 1, 500)
        assert mean_ratio_guard(control, 2 * rng(16).gamma(2, 1, 500), max_ratio=1.2).breached
        assert not mean_ratio_guard(control, rng(17).gamma(2, 1, 500), max_ratio=1.2).breached
        good, bad = Sample(count=800, mean=0.9, variance=0.09), Sample(count=800, mean=0.6, variance=0.24)
        assert mean_guard(good, bad, max_loss=0.05).breached
        assert not mean_guard(bad, good, max_loss=0.05).breached
        assert mean_guard(bad, good, max_loss=0.05, higher_is_better=False).breached


class TestBandit:
    def test_probabilities_of_being_best_are_those_of_draws(self) -> None:
        means, errors = np.array([0.5, 0.52, 0.47]), np.array([0.02, 0.03, 0.02])
        draws = rng(18).normal(means, errors, (200_000, 3)).argmax(axis=1)
        assert probability_best(means, errors) == pytest.approx(np.bincount(draws) / 200_000, abs=5e-3)

    def test_weights_are_the_shares_of_top_two_draws(self) -> None:
        best, generator = np.array([0.6, 0.3, 0.1]), rng(19)
        counts = np.zeros(3)
        for _ in range(20_000):
            first = second = int(generator.choice(3, p=best))
            if generator.random() >= 0.5:
                while second == first:
                    second = int(generator.choice(3, p=best))
            counts[second] += 1
        assert Bandit(minimum_share=0.0).weights(best) == pytest.approx(counts / 20_000, abs=0.015)

    @given(st.lists(st.floats(1e-9, 1.0), min_size=2, max_size=6))
    def test_weights_sum_to_one_and_keep_the_minimum_of_who_is_in(self, raw: list[float]) -> None:
        bandit, best = Bandit(minimum_share=0.05), np.array(raw) / sum(raw)
        weights = bandit.weights(best)
        assert weights.sum() == pytest.approx(1.0)
        assert (weights[best >= bandit.out] >= 0.05 - 1e-9).all()
        whole = whole_shares({str(i): float(w) for i, w in enumerate(weights)})
        assert sum(whole.values()) == 100

    def test_a_clear_winner_is_named_and_few_people_name_none(self) -> None:
        arms = {"a": Sample(count=900, mean=0.7, variance=0.21), "b": Sample(count=900, mean=0.5, variance=0.25)}
        assert Bandit().allocate(arms).winner == "a"
        assert not Bandit().allocate({**arms, "b": Sample(count=9, mean=0.1, variance=0.1)}).winner

    def test_arms_that_are_alike_end_without_a_winner(self) -> None:
        arms = {name: Sample(count=1_999, mean=0.5, variance=0.25) for name in "ab"}
        assert not Bandit().allocate(arms).ended
        found = Bandit().allocate({**arms, "a": Sample(count=2_001, mean=0.51, variance=0.25)})
        assert (found.ended, found.winner) == (True, "")
        ahead = Bandit().allocate({**arms, "a": Sample(count=2_001, mean=0.6, variance=0.25)})
        assert (ahead.ended, ahead.winner) == (False, "a")


@pytest.mark.slow
def test_the_bench_prints_what_is_promised() -> None:
    program = Path(__file__).parents[2] / "bench" / "statistics.py"
    done = subprocess.run([sys.executable, str(program), "--quick"], capture_output=True, check=True, timeout=600)
    out = json.loads(done.stdout)
    assert out["a_a"]["anytime, 100 looks"]["rate"] < 0.05
    assert out["power_10_12"]["group-sequential, 10 looks"]["rate"] > 0.84
    assert out["sabotage"]["promoted"] == 0
    # 60 experiments each: 8 and more of them would come about once in a hundred times at 5 %.
    assert out["bandit_wrong_winners"]["most"] < 8 / 60
    assert out["bandit"]["saved_mean_3_to_6_arms"] > 0.2
