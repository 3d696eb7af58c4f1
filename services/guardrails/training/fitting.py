"""Fits heads over hashed n-grams, the second stage, and the threshold."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # scipy carries no types
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # scikit-learn carries no types

from anabranch_guardrails.adapters.heads.grams import CHARACTER_BITS, WORD_BITS, grams
from anabranch_guardrails.adapters.heads.linear import Head, Rarities
from anabranch_guardrails.adapters.normal import fold

__all__ = ["Rows", "counted", "fitted", "matrix", "packed", "quantised", "stage"]

CHARACTERS: Final = 1 << CHARACTER_BITS
WORDS: Final = 1 << WORD_BITS

Rows = NDArray[np.int64]


def _buckets(text: str) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    found = grams(fold(text).text)
    return found.characters.ravel(), found.words.ravel()


def counted(texts: Sequence[str]) -> Rarities:
    """Inverse document frequencies, in steps that a byte holds."""
    characters, words = np.zeros(CHARACTERS), np.zeros(WORDS)
    for text in texts:
        first, second = _buckets(text)
        characters[np.unique(first)] += 1
        words[np.unique(second)] += 1
    rare = [np.log((1 + len(texts)) / (1 + seen)) + 1 for seen in (characters, words)]
    return Rarities(*((np.round(one / 0.05) * np.float32(0.05)).astype(np.float32) for one in rare))


def matrix(texts: Sequence[str], rarity: Rarities) -> csr_matrix:
    """A row for each text: its characters' n-grams as a vector of length one, then its words'."""
    ends, places, values = [0], [], []
    for text in texts:
        for buckets, rare, offset in zip(
            _buckets(text), (rarity.characters, rarity.words), (0, CHARACTERS), strict=True
        ):
            found = rare[buckets]
            length = float(np.sqrt(np.square(found, dtype=np.float64).sum())) or 1.0
            places.append(buckets.astype(np.int32) + offset)
            values.append((found / length).astype(np.float32))
        ends.append(ends[-1] + len(places[-1]) + len(places[-2]))
    found_matrix = csr_matrix(
        (np.concatenate(values), np.concatenate(places), np.asarray(ends)), shape=(len(texts), CHARACTERS + WORDS)
    )
    found_matrix.sum_duplicates()
    return found_matrix


def fitted(rows: csr_matrix, labels: NDArray[np.int8], weights: NDArray[np.float64], *, strength: float) -> Head:
    """A head by logistic regression."""
    model = LogisticRegression(C=strength, solver="liblinear", max_iter=300, random_state=0)
    model.fit(rows, labels, sample_weight=weights)
    found = model.coef_[0].astype(np.float32)
    return Head(characters=found[:CHARACTERS], words=found[CHARACTERS:], bias=float(model.intercept_[0]))


def stage(
    features: NDArray[np.float32], labels: NDArray[np.int8], weights: NDArray[np.float64], *, signs: Sequence[int]
) -> dict[str, Any]:
    """The second stage; where a sign is given (1, -1), a feature that came out against it is left out."""
    used = list(range(features.shape[1]))
    while True:
        model = LogisticRegression(C=0.3, max_iter=1_000).fit(features[:, used], labels, sample_weight=weights)
        against = [place for place, weight in zip(used, model.coef_[0], strict=True) if signs[place] * weight < 0]
        if not against:
            break
        used = [place for place in used if place not in against]
    found = np.zeros(features.shape[1])
    found[used] = model.coef_[0]
    return {"weights": [round(float(one), 5) for one in found], "bias": round(float(model.intercept_[0]), 5)}


def packed(values: NDArray[np.float32], kind: str, scale: float) -> dict[str, Any]:
    """As bytes and their scale."""
    limit = np.iinfo(kind)
    whole = np.clip(np.round(values / scale), limit.min, limit.max).astype(kind)
    return {"type": kind, "scale": scale, "bytes": base64.b64encode(whole.tobytes()).decode("ascii")}


def quantised(head: Head) -> dict[str, Any]:
    """A head for its file: each weight in a byte."""
    scales = [
        round(float(np.quantile(np.abs(one[one != 0]), 0.9995)) / 127, 6) for one in (head.characters, head.words)
    ]
    return {
        "characters": packed(head.characters, "int8", scales[0]),
        "words": packed(head.words, "int8", scales[1]),
        "bias": round(head.bias, 6),
    }
