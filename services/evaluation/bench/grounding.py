"""How well scores without a reference tell good answers from bad ones, as one JSON object.

    nice -n 10 .venv/bin/python services/evaluation/bench/grounding.py --data DIR > grounding.json

`DIR` holds `groundedness/wice_claims_dev.jsonl` (claims with the web pages they cite: supported, partially, not) and
`qa_clapnq/queries.jsonl`. Groundedness: areas under the ROC curve, over claims, by words alone and with vectors of
embedding's int8 and fp32 models, which are run in this process. Relevance: of an answer to its own question against
the same answer to another question. With `--limit N` only the first N of each.
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from time import process_time
from typing import Any, Final, Literal

from scipy.stats import rankdata  # type: ignore[import-untyped] # scipy carries no types

from anabranch_embedding.adapters.minilm import MiniLmEncoder, PackagedModel
from anabranch_embedding.adapters.minilm.cache import GraphCache
from anabranch_embedding.adapters.minilm.lanes import Turns
from anabranch_embedding.domain import Text
from anabranch_evaluation.domain.scoring import texts_of
from anabranch_grounding import SCORER_VERSION, Meaning, Vector, groundedness, quantised, relevance, sentences_of

_LEVEL: Final = {"supported": 2, "partially_supported": 1, "not_supported": 0}
_PART: Final = 1_000
_MODELS: Final[tuple[Literal["int8", "fp32"], ...]] = ("int8", "fp32")


def area(good: Sequence[float], bad: Sequence[float]) -> float | None:
    """The probability that a good one scores above a bad one, ties half; None where there are none of a kind."""
    if not good or not bad:
        return None
    ranks = rankdata([*good, *bad])
    count = len(good)
    return round(float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(bad))), 4)


async def embedded(texts: Sequence[str], quantisation: Literal["int8", "fp32"]) -> dict[str, Vector]:
    """Each text's vector, as the service would give and keep it."""
    turns = Turns(threads=1, limit=len(texts) + 1)
    with tempfile.TemporaryDirectory() as folder:
        model = MiniLmEncoder(
            model=PackagedModel.installed(), quantisation=quantisation, cache=GraphCache(Path(folder)), turns=turns
        )
        found: dict[str, Vector] = {}
        for start in range(0, len(texts), _PART):
            part = texts[start : start + _PART]
            encodings = await model.encode([Text(body=text) for text in part], urgent=False)
            found |= {text: quantised(one.vector) for text, one in zip(part, encodings, strict=True)}
        await model.close()
    turns.close()
    return found


def claims(rows: Sequence[dict[str, Any]], meaning: Meaning | None) -> dict[str, Any]:
    """Groundedness of every claim by its page."""
    began = process_time()
    scores = [groundedness(row["claim"], ["\n".join(row["evidence"])], meaning).score for row in rows]
    seconds = process_time() - began
    order = random.Random(5).sample(range(len(rows)), len(rows))  # noqa: S311  an order is no secret
    again = {
        place: groundedness(rows[place]["claim"], ["\n".join(rows[place]["evidence"])], meaning).score
        for place in order[:50]
    }
    levels: dict[int, list[float]] = {level: [] for level in _LEVEL.values()}
    for row, score in zip(rows, scores, strict=True):
        levels[_LEVEL[row["label"]]].append(score)
    return {
        "supported_v_not": area(levels[2], levels[0]),
        "supported_v_rest": area(levels[2], levels[1] + levels[0]),
        "at_least_partially_v_not": area(levels[2] + levels[1], levels[0]),
        "equal_bits_in_another_order": all(scores[place] == score for place, score in again.items()),
        "cpu_ms_a_claim": round(1000 * seconds / len(rows), 2),
    }


def answers(pairs: Sequence[tuple[str, str]], meaning: Meaning | None) -> float | None:
    """Of each answer to its own question against the next one's."""
    own = [relevance(question, answer, meaning) for question, answer in pairs]
    other = [relevance(pairs[place - 1][0], answer, meaning) for place, (_, answer) in enumerate(pairs)]
    return area(own, other)


def read(file: Path, limit: int) -> list[dict[str, Any]]:
    """The first rows of a file of JSON lines."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(limit), strict=False)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Areas under the ROC curve of scores without a reference.")
    parser.add_argument("--data", type=Path, default=os.environ.get("ANABRANCH_DATA"), help="folder of data sets")
    parser.add_argument("--limit", type=int, default=1_000_000)
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("--data or ANABRANCH_DATA must name the folder of data sets")
    rows = read(asked.data / "groundedness" / "wice_claims_dev.jsonl", asked.limit)
    queries = read(asked.data / "qa_clapnq" / "queries.jsonl", asked.limit)
    pairs = [(row["text"], row["long_answers"][0]["answer"]) for row in queries if row["answerable"]]
    texts = {part for row in rows for text in (row["claim"], *row["evidence"]) for part in sentences_of(text)}
    texts |= {part for question, answer in pairs for part in texts_of(question, answer, ())}
    found: dict[str, Any] = {
        "scorer": SCORER_VERSION,
        "claims": len(rows),
        "answers": len(pairs),
        "sentences": len(texts),
        "groundedness": {"words": claims(rows, None)},
        "relevance": {"words": answers(pairs, None)},
    }
    for quantisation in _MODELS:
        print(f"embedding {len(texts)} sentences with {quantisation}", file=sys.stderr)  # noqa: T201  a program's progress
        with redirect_stdout(sys.stderr):  # for what the model logs
            vectors = asyncio.run(embedded(sorted(texts), quantisation))
        meaning = Meaning(version=quantisation, vectors=vectors)
        found["groundedness"][quantisation] = claims(rows, meaning)
        found["relevance"][quantisation] = answers(pairs, meaning)
    print(json.dumps(found, indent=2))  # noqa: T201  a program's result


if __name__ == "__main__":
    main()
