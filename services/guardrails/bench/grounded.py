"""How well groundedness tells right answers from wrong ones that it has not seen, as one JSON object.

    nice -n 10 .venv/bin/python -m services.guardrails.bench.grounded --data DIR > grounded.json

`DIR` holds `groundedness`, `qa_clapnq` and `qa_beerqa`. Areas under the ROC curve: out of fold, and with each
source left out whole; how long the packaged check takes on answers of CLAP NQ, alone on one core.
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from anabranch_guardrails.adapters.grounded import configured
from anabranch_guardrails.domain import Context, Stage, Subject
from services.guardrails.training.grounding import FOLDS, claims_of, figures_of, out_of_fold, table_of


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    claims = claims_of(data)
    table, good, weights = table_of(claims)
    folds = np.array([int(hashlib.sha256(claim.group.encode()).hexdigest(), 16) % FOLDS for claim in claims])
    names = sorted({claim.source for claim in claims})
    sources = np.array([names.index(claim.source) for claim in claims])
    check = configured({})
    took: list[float] = []
    for claim in [claim for claim in claims if claim.source == "clapnq"]:
        subject = Subject(
            stage=Stage.OUTPUT, text=claim.answer, contexts=tuple(Context(text=text) for text in claim.contexts)
        )
        began = perf_counter()
        check.look(subject)
        took.append((perf_counter() - began) * 1_000)
    json.dump(
        {
            "rows": len(claims),
            "words_alone": figures_of(claims, table[:, 0]),
            "out_of_fold": figures_of(claims, out_of_fold(table, good, weights, folds)),
            "source_left_out": figures_of(claims, out_of_fold(table, good, weights, sources)),
            "p50_ms": round(float(np.quantile(took, 0.5)), 3),
            "p99_ms": round(float(np.quantile(took, 0.99)), 3),
        },
        sys.stdout,
        indent=2,
    )


if __name__ == "__main__":
    main()
