"""The composition root: the one place that names concrete classes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from grpc import StatusCode

from anabranch_artifacts import ArtifactStore
from anabranch_bus import Bus
from anabranch_evaluation.adapters.answers import SqlAnswerLog
from anabranch_evaluation.adapters.attic import SqlAttic
from anabranch_evaluation.adapters.explorations import SqlExplorations
from anabranch_evaluation.adapters.gates import SqlGates
from anabranch_evaluation.adapters.golden_sets import SqlGoldenSets
from anabranch_evaluation.adapters.judge import HttpJudge
from anabranch_evaluation.adapters.judging import LibraryJudge
from anabranch_evaluation.adapters.neighbours import GrpcSearch, GrpcVariants, GrpcWriter
from anabranch_evaluation.adapters.observations import SqlObservations
from anabranch_evaluation.adapters.rewarding import ArtifactReward
from anabranch_evaluation.adapters.runs import SqlRuns
from anabranch_evaluation.adapters.vectors import GrpcVectors
from anabranch_evaluation.adapters.waiting import SqlVerdicts, SqlWaitingAnswers
from anabranch_evaluation.application.cascading import EstimateCascade, TooFew
from anabranch_evaluation.application.datasets import KeepGoldenSets
from anabranch_evaluation.application.gating import DecideGates
from anabranch_evaluation.application.judging import AskJudge, JudgeAnswers
from anabranch_evaluation.application.keeping import DropOld, TendRuns
from anabranch_evaluation.application.observing import ObserveAnswers
from anabranch_evaluation.application.reading import ReadRuns
from anabranch_evaluation.application.running import RunVariant
from anabranch_evaluation.application.scoring import ScoreAnswers
from anabranch_evaluation.application.watching import WatchExperiments
from anabranch_evaluation.domain.costs import Price, Prices
from anabranch_evaluation.domain.experiments import Decision
from anabranch_evaluation.domain.judging import Judgment
from anabranch_evaluation.entrypoints import kafka, rpc
from anabranch_evaluation.settings import Settings
from anabranch_observability import counter, get_logger
from anabranch_observability.names import evaluation as names
from anabranch_rpc import connect
from anabranch_runtime import Service
from anabranch_store import Database, OutboxRelay

__all__ = ["build", "database_of"]

log = get_logger()


def database_of(url: str) -> Database:
    """Return evaluation's database at `url`."""
    return Database(url, schema="evaluation", migrations="anabranch_evaluation.adapters.migrations")


def build(settings: Settings, *, bus: Bus) -> Service:
    """Wire the service; start nothing."""
    database = database_of(settings.database_url)
    targets = {settings.retrieval, settings.generation, settings.registry, settings.embedding} - {""}
    channels = {target: connect(target) for target in targets}
    score = ScoreAnswers(
        vectors=GrpcVectors(channels[settings.embedding], database, version=settings.embedding_version)
        if settings.embedding
        else None,
        missed=_missed,
    )
    # Of what is scored on request and in runs; live scores stay comparable over time.
    offline = replace(score, reward=_reward(settings)) if settings.reward else score
    judge, ask = _judge(settings, database)
    relay = OutboxRelay(database, bus.publish_encoded)
    sets, runs = SqlGoldenSets(database), SqlRuns(database)
    search, variants = GrpcSearch(channels[settings.retrieval]), GrpcVariants(channels[settings.registry])
    run = RunVariant(
        sets=sets,
        runs=runs,
        search=search,
        writer=GrpcWriter(channels[settings.generation]),
        variants=variants,
        judge=LibraryJudge(),
        score=offline,
        at_once=settings.questions_at_once,
    )
    prices = Prices(
        known={
            name: Price(prompt=prompt, completion=completion) for name, (prompt, completion) in settings.prices.items()
        }
    )
    gates = SqlGates(database, encode=kafka.encoded_gate)
    decide = DecideGates(sets=sets, gates=gates, search=search, variants=variants, runs=run, prices=prices)
    answers = SqlAnswerLog(database, encode=kafka.encoded_score)
    watch = WatchExperiments(
        observations=SqlObservations(database, encode=kafka.encoded_decision),
        every=settings.look_every,
        delayed=_delayed,
        decided=_decided,
    )
    observe = ObserveAnswers(
        log=answers,
        sample=settings.sample,
        prices=prices,
        score=score,
        judged=settings.judge_sample if ask is not None else 0.0,
    )
    explorations = SqlExplorations(database)
    kafka.register(bus, decide=decide, watch=watch, observe=observe, explorations=explorations)
    # Also without a judge: what waited for one that is no longer configured is told, too.
    judging = JudgeAnswers(
        ask=ask,
        answers=SqlWaitingAnswers(database, encode=kafka.encoded_judged),
        judged=_judged,
        delayed=_judging_delayed,
        at_once=settings.judge_at_once,
    )
    tend = TendRuns(runs=runs, own=lambda: run.going, delayed=_tending_delayed)
    drop = DropOld(
        attic=SqlAttic(database),
        active=watch.active,
        retention=settings.retention,
        dropped=_dropped,
        delayed=_tending_delayed,
    )

    async def disconnect() -> None:
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    return Service(
        name="evaluation",
        bus=bus,
        rpc=[
            rpc.servicer(
                rpc.UseCases(
                    sets=KeepGoldenSets(sets=sets),
                    run=run,
                    read=ReadRuns(runs=runs, sets=sets),
                    decide=decide,
                    watch=watch,
                    scored=answers.scored,
                    cascade=EstimateCascade(explorations=explorations),
                    score=offline,
                    judge=ask,
                )
            )
        ],
        errors={rpc.NoJudge: StatusCode.FAILED_PRECONDITION, TooFew: StatusCode.FAILED_PRECONDITION},
        larger_messages={"PutDataset": rpc.PUT_BYTES},
        starting=[database.migrate],
        background=[relay.run, watch.run, tend.run, drop.run, judging.run],
        draining=[run.stop],
        closing=[database.close, disconnect, *([judge.close] if judge is not None else [])],
    )


def _judge(settings: Settings, database: Database) -> tuple[HttpJudge | None, AskJudge | None]:
    if not settings.judge_url:
        return None, None
    judge = HttpJudge(
        url=settings.judge_url,
        model=settings.judge_model,
        key=settings.judge_secret,
        time=settings.judge_time,
        at_once=settings.judge_at_once,
    )
    return judge, AskJudge(judge=judge, verdicts=SqlVerdicts(database), votes=settings.judge_votes)


def _reward(settings: Settings) -> ArtifactReward:
    store = ArtifactStore(settings.artifact_store, public_key=settings.public_key)
    return ArtifactReward.load(settings.reward, store=store, into=settings.data / "rewards")


def _missed(problem: str) -> None:
    counter(names.SCORED_WITHOUT_MEANING).inc()
    log.warning(names.Log.MEANING_MISSED, problem=problem)


def _judging_delayed(problem: str) -> None:
    log.warning(names.Log.JUDGING_DELAYED, problem=problem)


def _judged(judgment: Judgment | None) -> None:
    outcome = "without"
    if judgment is not None:
        counter(names.JUDGE_PARSE_FAILURES).inc(judgment.parse_failures)
        outcome = "unreadable" if not judgment.votes else "cached" if judgment.from_cache else "judged"
    counter(names.JUDGED).labels(outcome=outcome).inc()


def _delayed(experiment_id: str, problem: str) -> None:
    log.warning(names.Log.LOOK_DELAYED, experiment_id=experiment_id, problem=problem)


def _tending_delayed(problem: str) -> None:
    log.warning(names.Log.TENDING_DELAYED, problem=problem)


def _dropped(rows: int) -> None:
    log.info(names.Log.OLD_DROPPED, rows=rows)


def _decided(decision: Decision) -> None:
    counter(names.DECISIONS).labels(decision=decision.verb.value).inc()
    log.info(
        names.Log.EXPERIMENT_DECIDED,
        experiment_id=decision.experiment_id,
        phase=decision.phase.value,
        decision=decision.verb.value,
        arm=decision.arm,
        reason=decision.reason,
    )
