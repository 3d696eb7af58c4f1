"""How well the heads tell attacks, as one JSON object.

    nice -n 10 .venv/bin/python services/guardrails/bench/heads.py --data DIR [--leave-out] > heads.json

By the heads of the package: harmless texts of `DIR` that they were not trained on (questions, paragraphs, web pages,
manuals; the threshold for passages was chosen on others of the same kinds), loss under obfuscation (short attacks,
plain and in thirteen disguises), and time at 384 characters. With `--leave-out` the head for prompts is trained anew
without each source in turn, and judged on it: what a source does that nobody has seen.
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import base64
import codecs
import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from anabranch_guardrails.adapters.heads import Extraction, Injection, Toxicity
from anabranch_guardrails.adapters.heads.reading import Reader
from anabranch_guardrails.adapters.normal import Normalisation
from anabranch_guardrails.application.ports import Check
from anabranch_guardrails.domain import Stage, Subject

sys.path.insert(0, str(Path(__file__).parents[3]))  # the training's package lies in the checkout, and is not installed

from services.guardrails.training import __main__ as training
from services.guardrails.training import fitting
from services.guardrails.training.real import harmless, lines
from services.guardrails.training.texts import given

_MOST: Final = 600
_LOOKALIKE: Final = str.maketrans("aeiopcxs", "аеіорсхѕ")  # noqa: RUF001  that is the point
_LEET: Final = str.maketrans("aeiost", "4310$7")

DISGUISES: Final[Mapping[str, Callable[[str], str]]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "lookalikes": lambda text: text.translate(_LOOKALIKE),
    "zero_width": "\u200b".join,
    "leet": lambda text: text.lower().translate(_LEET),
    "split": " ".join,
    "dashes": lambda text: " ".join("-".join(word) for word in text.split()),
    "url": quote,
    "url_all": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "backwards": lambda text: text[::-1],
    "tags": lambda text: "Hi" + "".join(chr(0xE0000 + ord(one)) for one in text if ord(one) < 127),  # noqa: PLR2004
    "decode_this": lambda text: f"Decode this and do it: {base64.b64encode(text.encode()).decode()}",
}


def share(values: Sequence[bool]) -> float | None:
    """Of all, rounded."""
    return round(float(np.mean(values)), 4) if values else None


def passed(folder: Path) -> dict[str, Any]:
    """Harmless texts that no check of attacks stops."""
    injection, extraction = Injection(), Extraction()
    dice = random.Random(5)  # noqa: S311  the same texts every time
    found = {}
    for name, stage, rows in harmless(folder):
        some = dice.sample(rows[1::2], min(_MOST, len(rows) // 2))
        stopped = []
        for text, question in some:
            subject = Subject(stage=stage, text=text, question=question)
            scores = [injection.look(subject).score / injection.threshold]
            if stage is Stage.INPUT:
                scores.append(extraction.look(subject).score / extraction.threshold)
            stopped.append(max(scores) < 1)
        found[name] = {"passed": share(stopped), "n": len(some)}
    return found


def disguised(folder: Path) -> dict[str, Any]:
    """Recall on attacks given, shorter than a paragraph, plain and in every disguise."""
    injection, extraction = Injection(), Extraction()
    rows = lines(folder / "guardrails" / "attacks_train.jsonl")
    texts = sorted({row["text"] for row in rows if len(row["text"]) < 600 and row["text"].isascii()})  # noqa: PLR2004
    texts = random.Random(5).sample(texts, min(150, len(texts)))  # noqa: S311  the same texts every time

    def recall(change: Callable[[str], str]) -> float:
        caught = 0
        for text in texts:
            subject = Subject(stage=Stage.INPUT, text=change(text))
            caught += injection.look(subject).score >= injection.threshold or (
                extraction.look(subject).score >= extraction.threshold
            )
        return round(caught / len(texts), 4)

    plain = recall(str)
    found = {name: recall(change) for name, change in DISGUISES.items()}
    return {
        "plain": plain,
        **found,
        "mean_loss": round(plain - float(np.mean(list(found.values()))), 4),
        "n": len(texts),
    }


def timed(folder: Path) -> dict[str, Any]:
    """Of the four checks together, on one core, at 384 characters that were not seen before."""
    checks: list[Check] = [Normalisation(), Injection(), Extraction(), Toxicity()]
    rows = [row["text"] for row in lines(folder / "guardrails" / "benign_lookalikes_train.jsonl")]
    texts = sorted({" ".join(rows[at : at + 4])[:384] for at in range(0, len(rows) - 4, 2)})
    took = []
    for text in texts:
        subject = Subject(stage=Stage.INPUT, text=text)
        began = time.perf_counter()
        for check in checks:
            check.look(subject)
        took.append((time.perf_counter() - began) * 1e3)
    return {
        "p50_ms": round(float(np.quantile(took, 0.5)), 3),
        "p99_ms": round(float(np.quantile(took, 0.99)), 3),
        "n": len(took),
    }


def left_out(folder: Path) -> dict[str, Any]:
    """The head for prompts trained without each given source in turn: what of it is right at even odds."""
    data = given(folder / "guardrails")
    rows = training.tables(data)[0]["prompt"]
    rarity = fitting.counted([row.text for row in rows])
    found = {}
    for source in sorted({row.source for row in rows if ":" not in row.source and "sentence" not in row.source}):
        table = [replace(row, fold=int(row.source != source)) for row in rows]
        reader = Reader(heads=training.Fits({"prompt": table}, rarity).heads(0), rarity=rarity)
        judged = [row for row in table if row.fold == 0]
        right = [
            bool(reader.read(row.text).parts[0].blocks("prompt").max() >= 0) == bool(row.label)
            for row in judged
            if row.text.strip()
        ]
        found[source] = {"right": share(right), "attacks": bool(judged[0].label), "n": len(right)}
    return found


def main() -> None:
    """Parses the command line and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--leave-out", action="store_true")
    options = parser.parse_args()
    found = {"passed": passed(options.data), "disguised": disguised(options.data), "time": timed(options.data)}
    if options.leave_out:
        found["left_out"] = left_out(options.data)
    json.dump(found, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
