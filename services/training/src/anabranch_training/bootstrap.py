"""The composition root: the one file that names concrete classes."""

from __future__ import annotations

import asyncio
from typing import Final

from grpc import StatusCode

from anabranch_artifacts import ArtifactStore, Signer
from anabranch_bus import Bus
from anabranch_observability import counter, get_logger, histogram
from anabranch_observability.names import training as names
from anabranch_rpc import connect
from anabranch_runtime import Service
from anabranch_store import Database, OutboxRelay
from anabranch_training.adapters.book import SqlBook
from anabranch_training.adapters.exported import GrpcFeedback, NoFeedback
from anabranch_training.adapters.readings import SqlReadings
from anabranch_training.adapters.searcher import GrpcSearcher
from anabranch_training.adapters.shelf import SignedShelf
from anabranch_training.adapters.tracking import MlflowTracker
from anabranch_training.adapters.workshop.processes import AdapterSetup, Limits, ProcessWorkshop
from anabranch_training.application import runs as use
from anabranch_training.application.conducting import Conductor, TakeFeedback
from anabranch_training.application.drifting import WatchDrift
from anabranch_training.application.ports import LoopPolicies, NotEnough
from anabranch_training.domain.runs import Recipe, Run, RunState
from anabranch_training.entrypoints import kafka, rpc
from anabranch_training.settings import Settings

__all__ = ["build", "database_of"]

log = get_logger()

_GOLD_BYTES: Final = 128 * 1024 * 1024
"""Twenty thousand questions, each of the greatest length."""


class LoggedRuns:
    """Tells operators what happens to runs."""

    def moved(self, run: Run) -> None:
        """As in the port."""
        log.info(
            names.Log.RUN_MOVED,
            run_id=run.run_id,
            scope=run.scope,
            state=run.state.value,
            trigger=run.trigger.value,
            model=run.model_version,
            problem=run.problem,
        )
        counter(names.RUNS).labels(trigger=run.trigger.value, state=run.state.value).inc()
        if run.state is RunState.DONE and run.finished_at is not None:
            histogram(names.RUN_SECONDS).observe((run.finished_at - run.queued_at).total_seconds())

    def postponed(self, problem: str) -> None:
        """As in the port."""
        log.warning(names.Log.WORK_POSTPONED, problem=problem)


def database_of(url: str) -> Database:
    """Return training's database at `url`."""
    return Database(url, schema="training", migrations="anabranch_training.adapters.migrations")


def build(settings: Settings, *, bus: Bus) -> Service:
    """Wires the service; starts nothing."""
    database = database_of(settings.database_url)
    channels = {target: connect(target) for target in {settings.retrieval, settings.registry, settings.feedback} - {""}}
    feedback = GrpcFeedback(channels[settings.feedback]) if settings.feedback else NoFeedback()
    book = SqlBook(database, encode=kafka.encoded)
    relay = OutboxRelay(database, bus.publish_encoded)
    policies = LoopPolicies()
    readings = SqlReadings(database)
    drift = WatchDrift(readings=readings)
    workshop = ProcessWorkshop(
        (settings.data / "runs").absolute(),
        limits=Limits(
            memory_bytes=settings.run_memory_bytes,
            cpu=settings.run_cpu,
            time=settings.run_time,
            nice=settings.run_nice,
            attempts=settings.run_attempts,
        ),
        adapters=_adapters(settings),
    )
    shelf = SignedShelf(
        ArtifactStore(settings.artifacts_root, public_key=None),
        Signer(settings.signing_key) if settings.signing_key is not None else None,
    )
    tracker = (
        MlflowTracker(settings.mlflow, token=settings.mlflow_token.get_secret_value()) if settings.mlflow else None
    )
    conductor = Conductor(
        book=book,
        policies=policies,
        workshop=workshop,
        shelf=shelf,
        searcher=GrpcSearcher(
            retrieval_channel=channels[settings.retrieval], registry_channel=channels[settings.registry]
        ),
        feedback=feedback,
        drift=drift,
        watcher=LoggedRuns(),
        tracker=tracker,
        at_once=settings.runs_at_once,
        look_every=settings.look_every,
    )
    kafka.register(bus, TakeFeedback(book=book, taken=conductor.wake), policies, readings)

    async def conduct() -> None:
        # Of several replicas one conducts; when it ends, another goes on with what it left.
        async with database.exclusive("conductor"):
            await conductor.run()

    async def disconnect() -> None:
        await asyncio.gather(*(channel.close() for channel in channels.values()))
        if tracker is not None:
            await tracker.close()

    get = use.GetTraining(book=book)
    return Service(
        name="training",
        bus=bus,
        rpc=[
            rpc.servicer(
                rpc.UseCases(
                    start=use.StartTraining(
                        book=book,
                        policies=policies,
                        feedback=feedback,
                        recipes=_recipes(settings),
                        started=conductor.wake,
                    ),
                    get=get,
                    list=use.ListTrainings(book=book),
                    cancel=use.CancelTraining(book=book, get=get, stopped=conductor.stop),
                    build=use.BuildDataset(
                        book=book, policies=policies, workshop=workshop, shelf=shelf, feedback=feedback
                    ),
                    trace=use.TraceUse(book=book),
                    status=use.Status(book=book, policies=policies),
                    drift=drift.p_values,
                )
            )
        ],
        errors={NotEnough: StatusCode.FAILED_PRECONDITION},
        larger_messages={"StartTraining": _GOLD_BYTES},
        starting=[database.migrate],
        background=[relay.run, conduct],
        closing=[database.close, disconnect],
    )


def _adapters(settings: Settings) -> AdapterSetup | None:
    if settings.adapters_python is None:
        return None
    return AdapterSetup(
        python=settings.adapters_python.absolute(),
        base=settings.adapters_base,
        base_name=settings.adapters_base_name or settings.adapters_base.rstrip("/").rsplit("/", 1)[-1],
        parameters=settings.adapters_parameters,
        time=settings.adapters_time,
        memory_bytes=settings.adapters_memory_bytes,
    )


def _recipes(settings: Settings) -> frozenset[Recipe]:
    adapters = {Recipe.ADAPTER_SFT, Recipe.ADAPTER_DPO} if settings.adapters_python is not None else set()
    return frozenset({Recipe.RERANKER, Recipe.REWARD} | adapters)
