# ruff: noqa: INP001  a program, not a package
"""Trains the answer cache's verifier, reproducibly: python services/gateway/training/verifier.py --data DIR.

Questions of the data are split by what they are about; their paraphrases and near misses are made by one half of the
rules of `anabranch_gateway.testing.rephrasing`. Trees are fitted on `train`, stopped and calibrated on `validation`;
`test`, and the other half of the rules, are left to the measurement (bench/cache.py). Writes verifier.json and card.md.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import pickle
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # carries no types
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]  # as above

from anabranch_embedding.adapters.minilm import MiniLmEncoder, PackagedModel
from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Turns
from anabranch_embedding.domain import Text as EmbeddedText
from anabranch_gateway.domain.caching.features import FEATURES, Source, features
from anabranch_gateway.domain.caching.verifier import FORMAT, verifier_from
from anabranch_gateway.domain.caching.wording import worded
from anabranch_gateway.testing.rephrasing import Half, Rephraser, names_in
from anabranch_gateway.testing.replay import Asked, Finder, Vectors, cited_of, load, part_of

_PART: Final = 1_000
_SAME: Final = 6
_NEAR: Final = 5
_FILES: Final = (
    "qa_beerqa/queries.jsonl",
    "qa_beerqa/corpus.jsonl",
    "qa_clapnq/queries.jsonl",
    "qa_clapnq/corpus.jsonl",
    "docs_qa/pep_header_questions.jsonl",
    "docs_qa/kafka_config_questions.jsonl",
)
Row = tuple[list[float], bool, str]


class Embedding:
    """Vectors by the packaged model, each text once; kept in a file between runs where one is given."""

    def __init__(self, keep: Path | None) -> None:
        """Reads what the file has."""
        self._keep = keep
        self._known: dict[str, NDArray[np.float32]] = {}
        if keep is not None and keep.exists():
            self._known = pickle.loads(keep.read_bytes())  # noqa: S301  written by this script

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Each text's unit vector."""
        new = sorted({text for text in texts if text not in self._known})
        if new:
            with redirect_stdout(sys.stderr):  # where the encoder logs: stdout is for figures
                asyncio.run(self._embed(new))
            if self._keep is not None:
                self._keep.write_bytes(pickle.dumps(self._known))
        return {text: self._known[text] for text in texts}

    async def _embed(self, texts: Sequence[str]) -> None:
        turns = Turns(threads=1, limit=len(texts) + 1)
        with tempfile.TemporaryDirectory() as folder:
            model = MiniLmEncoder(
                model=PackagedModel.installed(), quantisation="int8", cache=GraphCache(Path(folder)), turns=turns
            )
            for start in range(0, len(texts), _PART):
                part = texts[start : start + _PART]
                encodings = await model.encode([EmbeddedText(body=text) for text in part], urgent=False)
                for text, one in zip(part, encodings, strict=True):
                    vector = np.asarray(one.vector, dtype=np.float32)
                    self._known[text] = vector / np.linalg.norm(vector)
            await model.close()
        turns.close()


def pairs(asked: Sequence[Asked], half: Half, seed: int) -> list[tuple[str, str, bool, str]]:
    """(question, known question, whether they have one answer, why not)."""
    rephraser = Rephraser(half, names_in([each.text for each in asked]), seed)
    rng = random.Random(seed)  # noqa: S311  reproducible on purpose
    groups: dict[str, list[str]] = {}
    for each in asked:
        groups.setdefault(each.group, []).append(each.text)
    found: list[tuple[str, str, bool, str]] = []
    for each in asked:
        same = [each.text, *(rephraser.same(each.text) for _ in range(_SAME))]
        for _ in range(_SAME + 2):
            one, other = rng.sample(same, 2)
            found.append((one, other, True, "same"))
        for _ in range(_NEAR):
            if (near := rephraser.near(each.text)) is None:
                continue
            text = rephraser.same(near.text) if rng.random() < 0.6 else near.text  # noqa: PLR2004  some as they are
            couple = (text, rng.choice(same))
            found.append((*(couple if rng.random() < 0.5 else couple[::-1]), False, near.rule))  # noqa: PLR2004  a coin
        others = [text for text in groups[each.group] if text != each.text]
        chosen = rng.sample(others, min(3, len(others)))
        found += [(rephraser.same(other), rng.choice(same), False, "sibling") for other in chosen]
    return found


def neighbours(asked: Sequence[Asked], vectors: Vectors, half: Half, seed: int) -> list[tuple[str, str, bool, str]]:
    """The nearest other questions of the data."""
    rephraser = Rephraser(half, [], seed)
    matrix = np.stack([vectors[each.text] for each in asked])
    cosines = matrix @ matrix.T
    np.fill_diagonal(cosines, -1)
    return [
        (rephraser.same(asked[int(other)].text), each.text, False, "neighbour")
        for at, each in enumerate(asked)
        for other in np.argsort(-cosines[at])[:3]
        if asked[int(other)].text.casefold() != each.text.casefold()
    ]


def rows(couples: Sequence[tuple[str, str, bool, str]], embed: Embedding, finder: Finder) -> list[Row]:
    """Each pair as the cache would see it; those it would not look at are left out."""
    vectors = embed([text for couple in couples for text in couple[:2]])
    found: dict[str, list[Source]] = {text: finder.find(text, vector) for text, vector in vectors.items()}
    made: list[Row] = []
    for asked, known, same, why in couples:
        cosine = float(vectors[asked] @ vectors[known])
        cited = cited_of(found[known])
        if cosine < 0.6 or cited not in {each.chunk_id for each in found[asked]}:  # noqa: PLR2004  the cache's own bound
            continue
        made.append(
            (
                features(
                    worded(asked),
                    worded(known),
                    cosine=cosine,
                    now=found[asked],
                    then=found[known],
                    cited=frozenset({cited}),
                ),
                same,
                why,
            )
        )
    return made


def flat(tree: dict[str, Any]) -> dict[str, list[Any]]:
    """A tree of LightGBM's as arrays."""
    arrays: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "low", "high", "value")}

    def add(node: dict[str, Any]) -> int:
        at = len(arrays["value"])
        for name, value in (("feature", 0), ("threshold", 0.0), ("low", at), ("high", at), ("value", 0.0)):
            arrays[name].append(value)
        if "leaf_value" in node:
            arrays["value"][at] = round(float(node["leaf_value"]), 6)
            return at
        arrays["feature"][at] = int(node["split_feature"])
        arrays["threshold"][at] = round(float(node["threshold"]), 6)
        arrays["low"][at] = add(node["left_child"])
        arrays["high"][at] = add(node["right_child"])
        return at

    add(tree)
    return arrays


def depth(tree: dict[str, Any]) -> int:
    """Edges from the root to the deepest leaf."""
    return 0 if "leaf_value" in tree else 1 + max(depth(tree["left_child"]), depth(tree["right_child"]))


CARD: Final = """# Verifier of the answer cache, {version}

{trees} boosted trees over {count} features of two questions and of what was found for each: how likely is it that the
answer to one also answers the other? Written by `services/gateway/training/verifier.py --data DIR --out DIR`; the
same data give the same file.

- **Data**: questions and passages of `qa_beerqa` (SQuAD and HotpotQA, CC BY-SA 4.0), `qa_clapnq` (Apache-2.0) and
  `docs_qa` (made of Kafka's and Python's documentation). Paraphrases and near misses (another entity, number,
  negation, opposite, question word, narrower, turned around, another field of the same thing, nearest other
  question) by own rules. No text of the data is in the file. Digests: {digests}.
- **Split**: by what questions are about, 55 % training, 14 % validation (stopping and calibration), 31 % never seen
  and left to `services/gateway/bench/cache.py`; so is half of the rules and of their words.
- **Pairs** (one answer, two answers): {pairs}.
- **Validation**: AUROC {auroc} (cosine alone {cosine}), average precision {precision} (cosine {cosine_precision}).
  Share scored above 0.98, by kind of pair: {above}.
- **Use**: its score alone never decides. The cache takes it for evidence whose worth it learns in each corpus, from
  cached answers compared with fresh ones. English wordings only were trained on; others are less often recognised.
"""


def card(figures: dict[str, Any]) -> str:
    """What a reader should know of it."""
    found = figures["validation"]
    return CARD.format(
        version=figures["version"],
        trees=figures["trees"],
        count=len(FEATURES),
        digests=", ".join(f"`{name}` {digest}" for name, digest in figures["data"].items()),
        pairs=", ".join(f"{part} {some[0]}, {some[1]}" for part, some in figures["pairs"].items()),
        auroc=found["auroc"],
        cosine=found["auroc_of_cosine"],
        precision=found["average_precision"],
        cosine_precision=found["average_precision_of_cosine"],
        above=", ".join(f"{why} {share}" for why, share in found["above_0.98"].items()),
    )


def main() -> None:
    """Trains and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, default=None, help="file to keep vectors in between runs")
    options = parser.parse_args()
    asked, texts = load(options.data)
    embed = Embedding(options.vectors)
    finder = Finder(texts, embed)
    made: dict[str, list[Row]] = {}
    for part, seed in (("train", 1), ("validation", 2)):
        mine = [each for each in asked if part_of(each.group) == part]
        couples = pairs(mine, "a", seed)
        couples += neighbours(mine, embed([each.text for each in mine]), "a", seed)
        made[part] = rows(couples, embed, finder)
    x = {part: np.array([row[0] for row in some], dtype=np.float64) for part, some in made.items()}
    y = {part: np.array([row[1] for row in some], dtype=np.int64) for part, some in made.items()}
    constraints = [0] * len(FEATURES)
    constraints[FEATURES.index("cosine")] = 1
    for name in ("opposed", "numbers_differ", "negations_differ", "names_missing", "kind_differs", "unmatched_share"):
        constraints[FEATURES.index(name)] = -1
    for name in ("same_chunks", "best_sentence_same", "sentences_same"):
        constraints[FEATURES.index(name)] = 1
    booster = lightgbm.train(
        {
            "objective": "binary",
            "learning_rate": 0.05,
            "num_leaves": 15,
            "min_data_in_leaf": 30,
            "feature_fraction": 0.7,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "monotone_constraints": constraints,
            "seed": 7,
            "deterministic": True,
            "num_threads": 1,
            "verbosity": -1,
        },
        lightgbm.Dataset(x["train"], y["train"], feature_name=list(FEATURES)),
        num_boost_round=400,
        valid_sets=[lightgbm.Dataset(x["validation"], y["validation"])],
        callbacks=[lightgbm.early_stopping(30, verbose=False)],
    )
    raw = np.asarray(booster.predict(x["validation"], raw_score=True))
    calibration = LogisticRegression(C=1e6).fit(raw.reshape(-1, 1), y["validation"])
    dumped = booster.dump_model(num_iteration=booster.best_iteration)["tree_info"]
    content: dict[str, Any] = {
        "format": FORMAT,
        "features": list(FEATURES),
        "depth": max(depth(each["tree_structure"]) for each in dumped),
        "scale": round(float(calibration.coef_[0, 0]), 6),
        "shift": round(float(calibration.intercept_[0]), 6),
        "trees": [flat(each["tree_structure"]) for each in dumped],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    content = {"version": f"cv-{digest[:12]}", **content}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "verifier.json").write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    verifier = verifier_from(content)
    scores = np.array([verifier.logit(row) for row in x["validation"]])
    wrong = {
        why: round(float(np.mean([scores[at] > 4 for at, row in enumerate(made["validation"]) if row[2] == why])), 4)  # noqa: PLR2004  0.98
        for why in sorted({row[2] for row in made["validation"]})
    }
    figures = {
        "version": content["version"],
        "trees": len(content["trees"]),
        "pairs": {part: [int(y[part].sum()), int((1 - y[part]).sum())] for part in y},
        "validation": {
            "auroc": round(float(roc_auc_score(y["validation"], scores)), 4),
            "average_precision": round(float(average_precision_score(y["validation"], scores)), 4),
            "auroc_of_cosine": round(float(roc_auc_score(y["validation"], x["validation"][:, 0])), 4),
            "average_precision_of_cosine": round(
                float(average_precision_score(y["validation"], x["validation"][:, 0])), 4
            ),
            "above_0.98": wrong,
        },
        "data": {name: hashlib.sha256((options.data / name).read_bytes()).hexdigest()[:16] for name in _FILES},
    }
    (options.out / "card.md").write_text(card(figures), encoding="utf-8")
    json.dump(figures, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
