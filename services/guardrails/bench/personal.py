"""How much personal data is found, how much of what is found is none, and how long it takes, as one JSON object.

    nice -n 10 .venv/bin/python -m services.guardrails.bench.personal --data DIR > personal.json

`DIR` holds `pii/presidio_synth_train.jsonl`. By kind: recall and precision where spans overlap, and recall where they
are the same. Then numbers of other things made by program (orders, hashes, versions, sums, dates, books), of which
none should be found, and numbers of persons in other words, countries and forms than the set has.
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import json
import random
import string
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import phonenumbers

from anabranch_guardrails.adapters.personal import KINDS, STRUCTURED, TYPES, PersonalData, configured

_SAYINGS: Final = {
    "CARD": ("Please charge {}.", "my card is {}", "{} was declined, why?", "Kartennummer: {}", "visa {} exp 12/27"),
    "PHONE": ("You can reach me at {}.", "{} is my cell", "Tel: {}", "appelez le {}", "Is {} the right hotline?"),
    "IBAN": ("Transfer it to {} please", "IBAN: {}", "{} is my account", "an {} überweisen"),
    "SSN": ("SSN {}", "my social security number: {}", "{} is on my tax return"),
    "IP": ("{} keeps timing out", "ping {}", "from {}, port 22", "host={};"),
    "EMAIL": ("write to {}", "<{}>", "mailto:{}", "Bitte an {} schicken."),
}
_REGIONS: Final = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "BR", "AU", "SE", "CH", "ZA", "JP", "FI", "PL")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    check = configured({"kinds": [kind for kind in KINDS if kind != "PERSON"]})
    rows = [json.loads(line) for line in (data / "pii" / "presidio_synth_train.jsonl").read_text("utf-8").splitlines()]
    source = random.Random(11)  # noqa: S311  made-up numbers are no secrets
    others = list(_others(source))
    wrong = [text for text in others if any(span.kind in STRUCTURED for span in check.inspect(text).spans)]
    json.dump(
        {
            "labelled": _labelled(check, rows),
            "made_up": _made_up(check, source),
            "numbers_of_other_things": {"n": len(others), "taken_for_personal": len(wrong), "such_as": wrong[:5]},
            **_times(check, [row["text"] for row in rows]),
        },
        sys.stdout,
        indent=2,
    )


def _labelled(check: PersonalData, rows: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = {TYPES[kind] for kind in STRUCTURED}
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in wanted}
    for row in rows:
        spans = [span for span in check.inspect(row["text"]).spans if span.kind in STRUCTURED]
        gold = [(one["start"], one["end"], one["type"]) for one in row["spans"] if one["type"] in wanted]
        for start, end, kind in gold:
            same = [span for span in spans if TYPES[span.kind] == kind and span.start < end and start < span.end]
            counts[kind]["n"] += 1
            counts[kind]["found"] += bool(same)
            counts[kind]["exact"] += any((span.start, span.end) == (start, end) for span in same)
        for span in spans:
            kind = TYPES[span.kind]
            counts[kind]["told"] += 1
            counts[kind]["right"] += any(kind == k and span.start < e and s < span.end for s, e, k in gold)
    return {
        kind: {
            "n": one["n"],
            "recall": round(one["found"] / one["n"], 4),
            "recall_exact": round(one["exact"] / one["n"], 4),
            "precision": round(one["right"] / one["told"], 4) if one["told"] else None,
        }
        for kind, one in sorted(counts.items())
    }


def _made_up(check: PersonalData, source: random.Random) -> dict[str, Any]:
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in _SAYINGS}
    missed: list[str] = []
    for kind, value in _values(source):
        text = source.choice(_SAYINGS[kind]).format(value)
        at = text.index(value)
        found = {(span.start, span.end, span.kind) for span in check.inspect(text).spans}
        counts[kind]["n"] += 1
        counts[kind]["exact"] += (at, at + len(value), kind) in found
        if (at, at + len(value), kind) not in found:
            missed.append(text)
    by_kind = {kind: {"n": one["n"], "recall_exact": round(one["exact"] / one["n"], 4)} for kind, one in counts.items()}
    return by_kind | {"such_as": missed[:10]}


def _values(source: random.Random) -> Iterator[tuple[str, str]]:
    digits, letters = string.digits, string.ascii_lowercase
    for _ in range(300):
        prefix = source.choice(("4", "51", "55", "2221", "34", "37", "36", "6011", "65", "3530", "62"))
        size = {"34": 15, "37": 15, "36": 14}.get(prefix, 16)
        body = prefix + "".join(source.choices(digits, k=size - len(prefix) - 1))
        card = body + str(_check_digit(body))
        if size == 16 and source.random() < 0.5:  # noqa: PLR2004  half
            card = source.choice((" ", "-")).join(card[at : at + 4] for at in range(0, 16, 4))
        yield "CARD", card
        region = source.choice(_REGIONS)
        example = phonenumbers.example_number_for_type(region, source.choice((0, 1)))
        if example is not None:
            form = source.choice(
                (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.NATIONAL)
            )
            yield "PHONE", phonenumbers.format_number(example, form)
        bank = "".join(source.choices(digits, k=18))
        yield "IBAN", "DE" + f"{98 - int(bank + '131400') % 97:02}" + bank
        yield "SSN", f"{source.randrange(1, 666):03}-{source.randrange(1, 100):02}-{source.randrange(1, 10_000):04}"
        yield "IP", ".".join(str(source.randrange(1, 255)) for _ in range(4))
        yield "IP", ":".join(f"{source.randrange(1, 65_536):x}" for _ in range(8))
        name = "".join(source.choices(letters, k=6))
        yield "EMAIL", f"{name}.{name[:3]}@{name[::-1]}.{source.choice(('com', 'co.uk', 'museum', 'de'))}"


def _check_digit(body: str) -> int:
    total = sum(
        (int(digit) * 2 - 9 * (int(digit) > 4)) if place % 2 == 0 else int(digit)  # noqa: PLR2004  of two digits
        for place, digit in enumerate(reversed(body))
    )
    return -total % 10


def _others(source: random.Random) -> Iterator[str]:
    for _ in range(400):
        month, day = source.randrange(1, 13), source.randrange(1, 29)
        yield f"Order {source.randrange(10**15, 10**16)} was sent on {day}.{month}.2024"
        yield f"tracking number {source.randrange(10**11, 10**12)}"
        yield f"sha256 {source.getrandbits(256):064x}"
        yield f"commit {source.getrandbits(160):040x}"
        yield f"version {source.randrange(30)}.{source.randrange(30)}.{source.randrange(30)}.{source.randrange(30)}"
        yield f"ISBN 978-3-{source.randrange(100, 999)}-{source.randrange(10_000, 99_999)}-{day % 10}"
        yield f"It cost ${source.randrange(10**6, 10**9):,}.{day:02} in {source.randrange(1900, 2030)}."
        yield f"{source.randrange(10**6, 10**9):,} people live there"
        yield f"for i in range({source.randrange(10**9, 10**11)}): pass"
        yield f"at {source.randrange(24):02}:{source.randrange(60):02}:{month:02} on 2024-{month:02}-{day:02}"
        yield f"latitude {source.uniform(-90, 90):.6f}, longitude {source.uniform(-180, 180):.6f}"
        yield f"id: {source.randrange(10**17, 10**18)}"


def _times(check: PersonalData, texts: list[str]) -> dict[str, float]:
    long = [(" ".join(texts[at : at + 12]))[:384] for at in range(0, len(texts) - 12, 3)]
    took: list[float] = []
    for text in long:
        began = perf_counter()
        check.inspect(text)
        took.append((perf_counter() - began) * 1_000)
    took.sort()
    return {
        "p50_ms_384": round(took[len(took) // 2], 3),
        "p99_ms_384": round(took[int(len(took) * 0.99)], 3),
    }


if __name__ == "__main__":
    main()
