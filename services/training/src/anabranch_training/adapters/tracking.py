"""Finished runs, told to an MLflow tracking server over its REST API (2.0).

Its client would bring forty packages for six kinds of request. What goes wrong there is logged and counted; a run waits
for it a few seconds at most, and never fails by it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from anabranch_observability import counter, get_logger
from anabranch_observability.names import training as names
from anabranch_training.application.ports import Made
from anabranch_training.domain.runs import Run, RunState

__all__ = ["MlflowTracker"]

log = get_logger()

_API: Final = "/api/2.0/mlflow"
_STATUS: Final = {RunState.DONE: "FINISHED", RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED"}
_MOST_PARAMS: Final = 100
_MOST_METRICS: Final = 1_000
_MOST_VALUE: Final = 500
_MOST_DIGEST: Final = 36
_MOST_NAME: Final = 250
_NOT_IN_NAMES: Final = re.compile(r"[^\w./ -]")
_TIME: Final = timedelta(seconds=10)


class MlflowTracker:
    """As the port says. An experiment for each tenant/corpus, `anabranch/<tenant>/<corpus>`; a run for each run."""

    def __init__(self, url: str, *, token: str = "", time: timedelta = _TIME) -> None:
        """Takes the server's address, as in http://host:5000. Opens nothing. time: for all that is told of a run."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._time = time.total_seconds()
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + _API, headers=headers, timeout=self._time, trust_env=False
        )

    async def ended(self, run: Run, made: Made | None) -> None:
        """As in the port."""
        try:
            async with asyncio.timeout(self._time):
                await self._tell(run, made)
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError) as error:
            counter(names.TRACKED).labels(outcome="failed").inc()
            log.warning(names.Log.RUN_NOT_TRACKED, run_id=run.run_id, problem=f"{type(error).__name__}: {error}"[:500])
        else:
            counter(names.TRACKED).labels(outcome="told").inc()
            log.info(names.Log.RUN_TRACKED, run_id=run.run_id)

    async def close(self) -> None:
        """Closes idle connections."""
        await self._client.aclose()

    async def _tell(self, run: Run, made: Made | None) -> None:
        experiment = await self._experiment(f"anabranch/{run.scope}")
        ended = _millis(run.finished_at or datetime.now(UTC))
        created = await self._post(
            "/runs/create",
            experiment_id=experiment,
            run_name=run.run_id,
            start_time=_millis(run.started_at or run.queued_at),
            tags=_pairs(_tags(run, made)),
        )
        run_id = created["run"]["info"]["run_id"]
        params = [
            {"key": _named(key), "value": value[:_MOST_VALUE]} for key, value in sorted(_params(run, made).items())
        ]
        metrics = [
            {"key": _named(key), "value": value, "timestamp": ended, "step": 0}
            for key, value in sorted(run.metrics.items())
        ]
        for start in range(0, len(params), _MOST_PARAMS):
            await self._post("/runs/log-batch", run_id=run_id, params=params[start : start + _MOST_PARAMS])
        for start in range(0, len(metrics), _MOST_METRICS):
            await self._post("/runs/log-batch", run_id=run_id, metrics=metrics[start : start + _MOST_METRICS])
        if made is not None:
            await self._post("/runs/log-inputs", run_id=run_id, datasets=[_input(made)])
        await self._post("/runs/update", run_id=run_id, status=_STATUS.get(run.state, "FAILED"), end_time=ended)

    async def _experiment(self, name: str) -> str:
        found = await self._client.get("/experiments/get-by-name", params={"experiment_name": name})
        if found.status_code == httpx.codes.NOT_FOUND:
            try:
                return str((await self._post("/experiments/create", name=name))["experiment_id"])
            except httpx.HTTPStatusError:
                # Another replica was first.
                found = await self._client.get("/experiments/get-by-name", params={"experiment_name": name})
        return str(found.raise_for_status().json()["experiment"]["experiment_id"])

    async def _post(self, path: str, **body: Any) -> Mapping[str, Any]:
        answered = await self._client.post(path, json=body)
        if answered.is_error:
            # What it says is wrong stands in the body.
            raise httpx.HTTPStatusError(
                f"{path}: {answered.status_code} {answered.text[:300]}", request=answered.request, response=answered
            )
        said: Mapping[str, Any] = answered.json()
        return said


def _tags(run: Run, made: Made | None) -> Mapping[str, str]:
    return {
        "mlflow.user": run.author,
        "mlflow.note.content": made.model.card if made is not None and made.model is not None else run.problem,
        "anabranch.run_id": run.run_id,
        "anabranch.tenant": run.tenant,
        "anabranch.corpus": run.corpus,
        "anabranch.recipe": run.recipe.value,
        "anabranch.trigger": run.trigger.value,
        "anabranch.reason": run.reason,
        "anabranch.problem": run.problem,
        "anabranch.dataset": run.dataset_version,
        "anabranch.model": run.model_version,
    }


def _params(run: Run, made: Made | None) -> Mapping[str, str]:
    origin = made.model.provenance if made is not None and made.model is not None else {}
    kept = {name: value for name, value in origin.items() if not name.startswith("parameter.")}
    return {**kept, **run.parameters, "seed": str(run.seed)}


def _input(made: Made) -> Mapping[str, Any]:
    dataset = made.dataset
    return {
        "dataset": {
            "name": dataset.version,
            "digest": dataset.digest[:_MOST_DIGEST],
            "source_type": "anabranch",
            "source": dataset.version,
        },
        "tags": [{"key": "mlflow.data.context", "value": "training"}],
    }


def _pairs(tags: Mapping[str, str]) -> Sequence[Mapping[str, str]]:
    return [{"key": key, "value": value[:5_000]} for key, value in tags.items() if value]


def _named(key: str) -> str:
    """A name as MLflow takes it: ndcg@10 is ndcg_at_10 there."""
    return _NOT_IN_NAMES.sub("_", key.replace("@", "_at_"))[:_MOST_NAME]


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)
