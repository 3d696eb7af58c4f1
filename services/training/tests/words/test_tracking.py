from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from anabranch_observability import counter
from anabranch_observability.names import training as names
from anabranch_training.adapters.tracking import MlflowTracker
from anabranch_training.application.ports import Made, MadeDataset, MadeModel
from anabranch_training.domain.runs import Recipe, Run, RunState, Trigger

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RUN = Run(
    run_id="tr-0123456789ab",
    tenant="acme",
    corpus="handbook",
    recipe=Recipe.RERANKER,
    trigger=Trigger.BY_HAND,
    author="ada",
    reason="",
    queued_at=NOW,
    started_at=NOW + timedelta(seconds=1),
    finished_at=NOW + timedelta(seconds=9),
    state=RunState.DONE,
    seed=7,
    dataset_version="ds-0123456789ab",
    model_version="rr-0123456789ab",
    parameters={"ridge": "20"},
    metrics={"ndcg@10": 0.93, "ndcg@10_before": 0.91},
)
MADE = Made(
    dataset=MadeDataset(
        version="ds-0123456789ab",
        digest="ab" * 32,
        tenant="acme",
        corpus="handbook",
        counts={},
        first=NOW,
        last=NOW,
        datasheet="",
    ),
    model=MadeModel(
        format="safetensors",
        algorithm="logistic",
        feature_set="rf-1",
        metrics={},
        parameters={},
        provenance={"code_version": "1+abc", "parameter.ridge": "20"},
        card="# Card",
        folder=Path("nowhere"),
    ),
)


@dataclass(slots=True)
class Mlflow:
    """Takes what the REST API of MLflow 2 and 3 is documented to take, and refuses the rest with 400."""

    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    experiments: dict[str, str] = field(default_factory=dict)
    broken: int = 0
    silent: bool = False
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.decode().split(" ", 2)
                lines = [line.partition(":") for line in head.decode().lower().split("\r\n")]
                length = next((int(value) for name, _, value in lines if name == "content-length"), 0)
                body = json.loads(await reader.readexactly(length) or "{}")
                if self.silent:
                    await asyncio.sleep(60)
                status, said = (self.broken, {}) if self.broken else self.said(method, target, body)
                content = json.dumps(said).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def said(self, method: str, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        path = urlsplit(target).path.removeprefix("/api/2.0/mlflow")
        self.asked.append((path, body))
        if (method, path) == ("GET", "/experiments/get-by-name"):
            name = parse_qs(urlsplit(target).query)["experiment_name"][0]
            known = self.experiments.get(name)
            return (200, {"experiment": {"experiment_id": known}}) if known else (404, {})
        fields = {
            "/experiments/create": {"name"},
            "/runs/create": {"experiment_id", "run_name", "start_time", "tags"},
            "/runs/log-batch": {"run_id", "params", "metrics"},
            "/runs/log-inputs": {"run_id", "datasets"},
            "/runs/update": {"run_id", "status", "end_time"},
        }
        if method != "POST" or path not in fields or not set(body) <= fields[path]:
            return 400, {}
        named = [one["key"] for part in ("params", "metrics") for one in body.get(part, ())]
        if not all(re.fullmatch(r"[/\w.\- ]*", name) for name in named):
            return 400, {}
        if path == "/experiments/create":
            self.experiments[body["name"]] = "17"
            return 200, {"experiment_id": "17"}
        return 200, {"run": {"info": {"run_id": "r1"}}} if path == "/runs/create" else {}

    def of(self, path: str) -> list[Mapping[str, Any]]:
        return [body for asked, body in self.asked if asked == path]


@pytest.fixture
async def mlflow() -> AsyncIterator[Mlflow]:
    mlflow = Mlflow()
    server = await asyncio.start_server(mlflow.answer, "127.0.0.1", 0)
    mlflow.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield mlflow
    server.close()


def told(outcome: str) -> float:
    return float(counter(names.TRACKED).labels(outcome=outcome)._value.get())


async def test_a_run_is_told_with_parameters_metrics_data_and_what_it_made(mlflow: Mlflow) -> None:
    tracker = MlflowTracker(mlflow.url)
    before = told("told")
    await tracker.ended(RUN, MADE)
    await tracker.ended(replace(RUN, state=RunState.FAILED, metrics={}, problem="no"), None)
    await tracker.close()
    assert told("told") == before + 2
    assert mlflow.experiments == {"anabranch/acme/handbook": "17"}
    assert len(mlflow.of("/experiments/create")) == 1
    created = mlflow.of("/runs/create")[0]
    tags = {tag["key"]: tag["value"] for tag in created["tags"]}
    assert (created["experiment_id"], created["run_name"]) == ("17", "tr-0123456789ab")
    assert (tags["anabranch.model"], tags["anabranch.dataset"]) == ("rr-0123456789ab", "ds-0123456789ab")
    batches = mlflow.of("/runs/log-batch")
    params = {one["key"]: one["value"] for batch in batches for one in batch.get("params", ())}
    metrics = {one["key"]: one["value"] for batch in batches for one in batch.get("metrics", ())}
    assert params == {"ridge": "20", "seed": "7", "code_version": "1+abc"}
    assert metrics == {"ndcg_at_10": 0.93, "ndcg_at_10_before": 0.91}
    assert mlflow.of("/runs/log-inputs")[0]["datasets"][0]["dataset"]["name"] == "ds-0123456789ab"
    assert [one["status"] for one in mlflow.of("/runs/update")] == ["FINISHED", "FAILED"]


@pytest.mark.parametrize("way", ["away", "broken", "silent"])
async def test_a_server_that_does_not_answer_is_counted_and_fails_nothing(mlflow: Mlflow, way: str) -> None:
    mlflow.broken, mlflow.silent = 500 if way == "broken" else 0, way == "silent"
    tracker = MlflowTracker("http://127.0.0.1:9" if way == "away" else mlflow.url, time=timedelta(seconds=0.3))
    before = told("failed")
    await tracker.ended(RUN, MADE)
    await tracker.close()
    assert told("failed") == before + 1
