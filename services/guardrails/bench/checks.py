"""What checks cost, and how long streams are held back, as one JSON object.

    nice -n 10 .venv/bin/python services/guardrails/bench/checks.py --data DIR > checks.json

Runs under the built-in policy, in this process, over `DIR/guardrails` (what people wrote, attacks and harmless texts,
and documents): all input checks at 384 characters, and each check alone; all context checks over five passages of 1,600
characters, new and remembered, and over one of 8,000; output checks over a whole answer; and the wait that checks add
to a stream: an answer written in pieces of a token at several speeds, and at once, as the extractive backend does.
With `--repeat N` that many texts.
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from anabranch_guardrails.adapters.catalogue import catalogue
from anabranch_guardrails.adapters.personal.vault import Restorer
from anabranch_guardrails.application.checking import Asked, CheckTexts
from anabranch_guardrails.application.policies import Policies, Whose
from anabranch_guardrails.application.running import Runner
from anabranch_guardrails.application.streaming import CheckAnswers, Ended, Opened, Part, Released
from anabranch_guardrails.application.workers import Workers
from anabranch_guardrails.domain import Context, Stage, Subject
from anabranch_guardrails.entrypoints.policies import built_in
from anabranch_guardrails.testing import Counted, Kept

LENGTH: Final = 384
WHOSE: Final = Whose(tenant="t", corpus="c", request_id="r")
SPEEDS: Final = (10, 25, 50, 100)
"""Tokens a second."""


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    p50, p95, p99 = np.percentile(np.asarray(seconds) * 1_000, [50, 95, 99])
    return {
        "p50_ms": round(float(p50), 3),
        "p95_ms": round(float(p95), 3),
        "p99_ms": round(float(p99), 3),
        "n": len(seconds),
    }


def texts(folder: Path, names: str = "*_train.jsonl", *, label: str = "") -> list[str]:
    """What people wrote, in a fixed order."""
    found = []
    for file in sorted((folder / "guardrails").glob(names)):
        for line in file.read_text("utf-8").split("\n"):
            if not line:
                continue
            row = json.loads(line)
            if label and row.get("label") != label:
                continue
            if isinstance(text := row.get("text") or row.get("prompt"), str) and text.strip():
                found.append(text.strip())
    random.Random(7).shuffle(found)  # noqa: S311  an order, no secret
    return found


class Bench:
    """The use cases under the built-in policy."""

    def __init__(self) -> None:
        """Reads the models."""
        self.checks = catalogue()
        plan = built_in(self.checks)[0]
        policies = Policies(plan)
        self.plan, self.told, record = plan, Counted(), Kept()
        runner = Runner(workers=Workers(threads=2, waiting=64), telemetry=self.told)
        self.check = CheckTexts(
            policies=policies, catalogue=self.checks, runner=runner, record=record, telemetry=self.told
        )
        self.answers = CheckAnswers(
            policies=policies, runner=runner, record=record, telemetry=self.told, restorer=Restorer, at_once=256
        )

    async def timed(self, subjects: Sequence[Subject]) -> dict[str, float]:
        """Milliseconds from call to answer."""
        return await measured([lambda one=one: self.check(Asked(whose=WHOSE, subject=one)) for one in subjects])  # type: ignore[misc] # a lambda's default has no type

    def each(self, subjects: Sequence[Subject]) -> dict[str, dict[str, float]]:
        """Milliseconds of each check of the policy alone, processor time."""
        found: dict[str, dict[str, float]] = {}
        for step in self.plan.steps[subjects[0].stage]:
            if step.check is None:
                continue
            spent = []
            for subject in subjects:
                began = time.process_time()
                step.check.look(subject)
                spent.append(time.process_time() - began)
            found[step.rule.check] = quantiles(spent)
        return found

    async def stream(self, pieces: Sequence[str], pause: float, opened: Opened) -> list[float]:
        """Seconds that each piece was held back: from its arrival to the release of its last character."""
        arrived: list[tuple[int, float]] = []
        length = 0

        async def parts() -> AsyncIterator[Part]:
            nonlocal length
            for piece in pieces:
                length += len(piece)
                arrived.append((length, time.perf_counter()))
                yield piece
                if pause:
                    await asyncio.sleep(pause)
            yield Ended()

        self.told.waits.clear()
        async for out in self.answers(opened, parts()):
            assert not isinstance(out, Released) or out.text  # noqa: S101  nothing empty is sent
        return [wait.total_seconds() for wait in self.told.waits]


async def measured(calls: Sequence[Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    """Milliseconds of each call, one after the other."""
    spent = []
    for call in calls:
        began = time.perf_counter()
        await call()
        spent.append(time.perf_counter() - began)
    return quantiles(spent)


def tokens(text: str) -> list[str]:
    """About as a model writes: pieces of four characters or fewer, a space before the first of a word."""
    return re.findall(r"\s?\S{1,4}|\s", text)


async def main(folder: Path, repeat: int) -> dict[str, Any]:
    """All figures."""
    bench, written = Bench(), texts(folder)
    joined = [
        f"{one} {other}"[:LENGTH].ljust(LENGTH, ".") for one, other in zip(written, reversed(written), strict=True)
    ]
    inputs = [Subject(stage=Stage.INPUT, text=text) for text in joined[: repeat + 20]]
    await bench.timed(inputs[:20])
    report: dict[str, Any] = {"checks": [step.rule.check for step in bench.plan.steps[Stage.INPUT]]}
    harmless = texts(folder, "indirect_documents_composed.jsonl", label="benign")
    report["input_384"] = await bench.timed(inputs[20:])
    report["input_384_each"] = bench.each(inputs[20:220])

    def passage(at: int, size: int) -> str:
        return " ".join(harmless[(at * 7 + n) % len(harmless)] for n in range(size // 60))[:size]

    def asked(at: int, size: int, count: int) -> Subject:
        contexts = tuple(Context(text=passage(at * count + n, size), key=f"{at}-{n}-{size}") for n in range(count))
        return Subject(stage=Stage.CONTEXT, text="", question=harmless[at % len(harmless)][:120], contexts=contexts)

    fives = [asked(at, 1_600, 5) for at in range(repeat // 10)]
    report["context_5x1600_new"] = await bench.timed(fives)
    report["context_5x1600_other_question"] = await bench.timed(
        [replace(one, question="What is it about?") for one in fives]
    )
    report["context_5x1600_same_question"] = await bench.timed(fives)
    report["context_8000"] = await bench.timed([asked(at, 8_000, 1) for at in range(1_000, 1_000 + repeat // 10)])
    answer = (
        "Green tea is steeped for two minutes at eighty degrees [1]. Black tea takes four minutes, in boiling water. "
        "The leaves may be used twice in 2026; see the guide for 12 kinds of tea [1][3]. "
    ) * 3
    contexts = tuple(Context(text=passage(n, 1_600)) for n in range(5))
    output = Subject(stage=Stage.OUTPUT, text="", question="How long is tea steeped?", contexts=contexts, citations=5)
    whole = [replace(output, text=answer)] * max(20, repeat // 10)
    report["output_whole"] = await bench.timed(whole)
    opened = Opened(whose=WHOSE, subject=output)
    held: dict[str, Any] = {}
    for speed in SPEEDS:
        waits: list[float] = []
        for _ in range(max(1, speed // 25)):
            waits += await bench.stream(tokens(answer), 1 / speed, opened)
        held[f"{speed}_tokens_a_second"] = quantiles(waits)
    waits = []
    for _ in range(max(20, repeat // 10)):
        waits += await bench.stream([answer[:200], answer[200:]], 0, opened)
    held["at_once"] = quantiles(waits)
    several = await asyncio.gather(*(bench.stream(tokens(answer), 1 / 50, opened) for _ in range(4)))
    held["50_tokens_a_second_4_streams_waits"] = quantiles([wait for each in several for wait in each])
    report["held_back"] = held
    report["failures"] = sorted(check for check, _ in bench.told.failures)
    report["cpus"] = len(os.sched_getaffinity(0))
    report["hold_back_ms"] = bench.plan.policy.hold_back / timedelta(milliseconds=1)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=500)
    given = parser.parse_args()
    json.dump(asyncio.run(main(given.data, given.repeat)), sys.stdout, indent=1)
