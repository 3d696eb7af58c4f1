"""`python tests/bench/guards.py --data DIR`: what guardrails cost, against none, on this machine; JSON on stdout.

Questions: one platform whose gateway has guardrails, and beside it a second gateway that has none, over the same index
and model; both are asked the same questions in turn, so that whatever else the machine does meets both. Documents: the
same corpus put into that platform and into one without guardrails, one after the other. DIR holds `qa_beerqa`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anabranch_client import Anabranch, Delta, FinishReason
from anabranch_faults import Unreachable
from anabranch_local.state import load_state
from anabranch_testkit.platform import RunningPlatform, running_platform

ROOT = Path(__file__).resolve().parents[2]
OFF = {"ANABRANCH_GATEWAY_GUARDRAILS": "", "ANABRANCH_INGESTION_GUARDRAILS": ""}
WARM_UP = 30
READY_S = 60


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextmanager
def unguarded(platform: RunningPlatform, data: Path) -> Iterator[Anabranch]:
    """A client of a second gateway over the same services, without guardrails."""
    state = load_state(platform.data)
    assert state is not None, "the platform runs"
    data.mkdir()
    addresses = data / "addresses"
    settings = {
        "KAFKA": platform.kafka,
        "DATA": str(data),
        "ADDRESS_FILE": str(addresses),
        "LISTEN": "127.0.0.1:0",
        "HTTP_LISTEN": "127.0.0.1:0",
        **{name.upper(): state.targets[name] for name in ("retrieval", "generation", "ingestion", "feedback")},
    }
    environment = {**os.environ, **{f"ANABRANCH_GATEWAY_{key}": value for key, value in settings.items()}}
    with (data / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "anabranch_gateway"], env=environment, stderr=log, stdout=log)
    try:
        until = time.monotonic() + READY_S
        while not addresses.exists() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.05)
        key = (data / "key").read_text(encoding="utf-8").strip()
        with Anabranch(json.loads(addresses.read_text(encoding="utf-8"))["rpc"], key=key) as client:
            ready(client, until)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def ready(client: Anabranch, until: float) -> None:
    """Returns once it knows a routing."""
    while True:
        try:
            client.ask("Is all ready?", corpus="beerqa")
        except Unreachable:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def asked(client: Anabranch, question: str) -> tuple[float, bool, float, float]:
    """Milliseconds an answer took, whether it was blocked, and the waits for guardrails in it."""
    started = time.perf_counter()
    answer = client.ask(question, corpus="beerqa")
    took = 1000 * (time.perf_counter() - started)
    waits = [1000 * wait.total_seconds() for wait in (answer.timings.guard_input, answer.timings.guard_output)]
    return took, answer.finish_reason is FinishReason.BLOCKED, waits[0], waits[1]


def first_words(client: Anabranch, question: str) -> float:
    """Milliseconds to the first words of a stream; to its end where there are none."""
    started = time.perf_counter()
    for event in client.ask_stream(question, corpus="beerqa"):
        if isinstance(event, Delta):
            break
    return 1000 * (time.perf_counter() - started)


def spread(took: list[float]) -> dict[str, float]:
    """Percentiles."""
    took = sorted(took)
    return {
        "p50_ms": round(statistics.median(took), 2),
        "p95_ms": round(took[int(len(took) * 0.95)], 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
        "n": len(took),
    }


def questions(guarded: Anabranch, plain: Anabranch, texts: list[str]) -> dict[str, Any]:
    """Both gateways in turn, one question at a time."""
    clients = {"guarded": guarded, "unguarded": plain}
    took: dict[str, list[float]] = {name: [] for name in clients}
    words: dict[str, list[float]] = {name: [] for name in clients}
    waits: dict[str, list[float]] = {"input": [], "output": []}
    blocked = 0
    for number, text in enumerate(texts):
        for name in sorted(clients, reverse=bool(number % 2)):
            total, stopped, before, after = asked(clients[name], text)
            first = first_words(clients[name], text)
            if number < WARM_UP:
                continue
            took[name].append(total)
            words[name].append(first)
            if name == "guarded":
                blocked += stopped
                waits["input"].append(before)
                waits["output"].append(after)
    whole = {name: spread(each) for name, each in took.items()}
    return {
        "ask": whole,
        "first_words": {name: spread(each) for name, each in words.items()},
        "added_p50_ms": round(whole["guarded"]["p50_ms"] - whole["unguarded"]["p50_ms"], 2),
        "waits_of_the_guarded": {name: spread(each) for name, each in waits.items()},
        "blocked": blocked,
    }


def put(platform: RunningPlatform, corpus: Path) -> dict[str, Any]:
    """Documents a second until they are queryable, and how many were refused."""
    # Its exit code tells of documents that were refused, which guardrails may well have done.
    done = json.loads(platform.run("put", str(corpus), "--corpus", "beerqa", "--wait", "--json", timeout=900).stdout)
    return {
        "documents_per_s": round((done["queryable"] + len(done["rejected"])) / done["seconds"], 1),
        "queryable": done["queryable"],
        "rejected": len(done["rejected"]),
        "reasons": [each["reason"][:160] for each in done["rejected"][:5]],
    }


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ANABRANCH_DATA") or ROOT.parent / "shared" / "data")
    )
    parser.add_argument("--documents", type=int, default=800)
    parser.add_argument("--questions", type=int, default=300)
    options = parser.parse_args()
    rows = (options.data / "qa_beerqa" / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    asks = (options.data / "qa_beerqa" / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [str(json.loads(line)["text"]) for line in asks[: options.questions]]
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="anabranch-bench-") as folder:
        corpus = Path(folder) / "corpus.jsonl"
        corpus.write_text("".join(rows[: options.documents]), encoding="utf-8")
        say("with guardrails")
        with running_platform(Path(folder) / "guarded") as platform:
            report["put_guarded"] = put(platform, corpus)
            with platform.client() as guarded, unguarded(platform, Path(folder) / "second") as plain:
                report |= questions(guarded, plain, texts)
        say("without")
        os.environ.update(OFF)
        with running_platform(Path(folder) / "unguarded") as platform:
            report["put_unguarded"] = put(platform, corpus)
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
