from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize  # type: ignore[import-untyped, unused-ignore]  # ships no types
from scipy.stats import truncnorm  # type: ignore[import-untyped, unused-ignore]  # ships no types

from anabranch_training.adapters.learners.posterior import Problem, likeliest, mean_above_zero

MEANS = st.lists(st.floats(min_value=-30, max_value=30), min_size=1, max_size=6)


def problem(seed: int = 0, *, rows: int = 200, flip: float = 0.15) -> Problem:
    chance = np.random.default_rng(seed)
    design = np.column_stack([chance.normal(size=(rows, 3)), np.ones(rows)])
    questions = np.sort(chance.integers(15, size=rows))
    sure = 1 / (1 + np.exp(-design @ [1.5, 0.5, 0.0, -0.3]))
    labels = (chance.random(rows) < sure) != (chance.random(rows) < flip)
    return Problem(
        design=design,
        labels=labels.astype(float),
        weights=chance.uniform(0.5, 1.5, size=rows),
        questions=np.unique(questions, return_inverse=True)[1],
        pull=np.array([1e-3, 10.0, 10.0, 1e-3]),
        flip=flip,
        levels=0.1,
    )


@settings(max_examples=60, deadline=None)
@given(MEANS, st.floats(min_value=0.05, max_value=20))
def test_weights_that_know_nothing_of_each_other_have_the_means_of_truncated_normals(
    means: list[float], spread: float
) -> None:
    found = mean_above_zero(np.array(means), np.eye(len(means)) / spread**2, np.ones(len(means), dtype=bool))
    told = [truncnorm.mean(-mean / spread, np.inf, loc=mean, scale=spread) for mean in means if mean / spread > -20]
    known = [value for value, mean in zip(found, means, strict=True) if mean / spread > -20]
    assert known == pytest.approx(told, rel=1e-4, abs=1e-6)
    assert (found >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=10_000), st.integers(min_value=2, max_value=8))
def test_a_mean_under_bounds_obeys_them_and_knows_no_order_of_the_weights(seed: int, size: int) -> None:
    chance = np.random.default_rng(seed)
    roots = chance.normal(size=(size, size))
    precision, mean = roots @ roots.T + 0.1 * np.eye(size), chance.normal(size=size) * 3
    positive = chance.random(size) < 0.6
    found = mean_above_zero(mean, precision, positive)
    assert np.isfinite(found).all()
    assert (found[positive] >= 0).all()
    mixed = chance.permutation(size)
    assert mean_above_zero(mean[mixed], precision[np.ix_(mixed, mixed)], positive[mixed]) == pytest.approx(
        found[mixed], rel=1e-3, abs=1e-3
    )
    assert mean_above_zero(mean, precision, np.zeros(size, dtype=bool)) == pytest.approx(mean)


def test_the_mean_of_weights_that_go_together_is_that_of_draws() -> None:
    cover = np.array([[1.0, -0.7, 0.3], [-0.7, 1.0, 0.1], [0.3, 0.1, 0.5]])
    mean, positive = np.array([0.2, -0.5, 0.1]), np.array([True, True, False])
    drawn = np.random.default_rng(0).multivariate_normal(mean, cover, size=400_000)
    left = drawn[(drawn[:, positive] > 0).all(axis=1)].mean(axis=0)
    assert mean_above_zero(mean, np.linalg.inv(cover), positive) == pytest.approx(left, abs=0.03)


@pytest.mark.parametrize("flip", [0.0, 0.15, 0.35])
def test_the_likeliest_weights_are_those_that_a_general_optimiser_finds(flip: float) -> None:
    given_ = problem(flip=flip)
    found, precision = likeliest(given_, np.array([1.0, 0, 0, 0]))
    count = int(given_.questions.max()) + 1
    oracle = minimize(
        lambda point: given_.around(point[:4], point[4:]).value,
        np.concatenate([[1.0, 0, 0, 0], np.zeros(count)]),
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10**6, "ftol": 1e-14},
    )
    assert found == pytest.approx(oracle.x[:4], abs=0.01)
    assert np.linalg.eigvalsh(precision).min() > 0


def test_few_labels_are_learned_from_without_what_only_many_need() -> None:
    """Loading these takes seconds, and counts against the time from feedback to a candidate."""
    program = (
        "import sys; import anabranch_training.adapters.workshop.making, anabranch_training.adapters.workshop.child;"
        "print([name for name in ('lightgbm', 'scipy.optimize', 'sklearn', 'torch') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
