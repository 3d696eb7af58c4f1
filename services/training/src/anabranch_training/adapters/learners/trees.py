"""Boosted trees over the ranking, for many labels."""

from __future__ import annotations

import numpy as np

from anabranch_training.adapters.learners.table import Floats, Table
from anabranch_training.domain import TreeScore

__all__ = ["fit", "scores"]

_MONOTONE_BUT_FOR = frozenset({"length", "freshness"})


def fit(table: Table, names: tuple[str, ...], *, seed: int, rounds: int = 150) -> TreeScore:
    """LambdaMART; more of a matching feature never lowers the score. One thread: the same model on every machine."""
    import lightgbm  # noqa: PLC0415  takes seconds, and few runs need it

    sizes = np.bincount(table.questions)
    data = lightgbm.Dataset(
        table.features,
        label=np.round(table.labels),
        weight=table.weights,
        group=sizes,
        feature_name=list(names),
        free_raw_data=False,
    )
    parameters = {
        "objective": "lambdarank",
        "learning_rate": 0.05,
        "num_leaves": 7,
        "min_data_in_leaf": 50,
        "lambda_l2": 10.0,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "monotone_constraints": [0 if name in _MONOTONE_BUT_FOR else 1 for name in names],
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed % 2**31,
        "verbosity": -1,
    }
    return TreeScore(text=lightgbm.train(parameters, data, num_boost_round=rounds).model_to_string())


def scores(model: TreeScore, features: Floats) -> Floats:
    """The model's score of each row."""
    import lightgbm  # noqa: PLC0415  as above

    return np.asarray(
        lightgbm.Booster(model_str=model.text).predict(features, raw_score=True, num_threads=1), dtype=float
    )
