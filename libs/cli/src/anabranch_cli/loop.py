"""`anabranch loop`: the timeline of feedback becoming change, how it is declared, and a simulation of people."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from anabranch.feedback.v1 import feedback_service_pb2 as feedback
from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_grpc
from anabranch.registry.v1 import registry_service_pb2 as registry
from anabranch.registry.v1 import registry_service_pb2_grpc as registry_grpc
from anabranch.training.v1 import training_service_pb2 as training
from anabranch.training.v1 import training_service_pb2_grpc as training_grpc
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.internal import author, calls, document, moment, scope_of
from anabranch_cli.output import DONE, FAILED, console, emit, json_option
from anabranch_faults import NotFound

SHOWN = 40
"""Rows of the timeline."""


@click.group(invoke_without_command=True)
@click.option("--corpus", help="Only of this corpus. Default: all of the tenant's.")
@data_option
@json_option
@click.pass_context
def loop(context: click.Context, *, corpus: str | None, data: Path | None, as_json: bool) -> int:
    """Show the timeline: feedback, runs, candidates, gates, experiments, promotions, and what serves now."""
    if context.invoked_subcommand is not None:
        return DONE
    report = timeline(platform(data), corpus)
    emit(report, as_json=as_json, human=lambda: show(report))
    return DONE


def timeline(where: Platform, corpus: str | None) -> dict[str, Any]:
    """Everything that the services know of the loop, as JSON values."""
    scope = scope_of(where, corpus)
    with calls(where, "feedback", feedback_grpc.FeedbackServiceStub) as service:
        counted = service.CountFeedback(feedback.CountFeedbackRequest(tenant=where.tenant, corpus=corpus or ""))
    with calls(where, "training", training_grpc.TrainingServiceStub) as service:
        runs = service.ListTrainings(training.ListTrainingsRequest(tenant=where.tenant, corpus=corpus or ""))
        status = service.GetStatus(training.GetStatusRequest(tenant=where.tenant, corpus=corpus)) if corpus else None
    with calls(where, "registry", registry_grpc.RegistryServiceStub) as service:
        changes = service.ListChanges(
            registry.ListChangesRequest(scope=scope if corpus else "", page_size=SHOWN)
        ).changes
        candidates = service.ListCandidates(registry.ListCandidatesRequest(scope=scope if corpus else "")).candidates
        live = routed(service, scope)
    return {
        "feedback": document(counted),
        "next": document(status) if status is not None else None,
        "trainings": [document(each) for each in runs.trainings],
        "candidates": [document(each) for each in candidates],
        "changes": [document(each) for each in changes],
        "live": live,
    }


def routed(service: Any, scope: str) -> dict[str, Any] | None:
    """The routing that holds for a scope."""
    for each in dict.fromkeys((scope, scope.split("/", 1)[0], "*")):
        try:
            return document(service.GetRouting(registry.GetRoutingRequest(scope=each)).routing)
        except NotFound:
            continue
    return None


def show(report: dict[str, Any]) -> None:
    """For people, newest last."""
    counts = ", ".join(f"{each['count']} {each['kind']}" for each in report["feedback"]["counts"])
    console.print(
        f"  feedback: {counts or 'none yet'}; {report['feedback']['users']} people, "
        f"{report['feedback']['waiting']} waiting for their answer",
        markup=False,
    )
    if (ahead := report["next"]) is not None and int(ahead["feedback_needed"]):
        console.print(
            f"  next run: {ahead['feedback_since_last']} of {ahead['feedback_needed']} feedbacks", markup=False
        )
    for run in reversed(report["trainings"]):
        state = run["state"].removeprefix("TRAINING_STATE_").lower()
        console.print(
            f"  run {run['run_id']}  {state}  {run['dataset_version']}  {run['model_version']}  {run['reason']}",
            markup=False,
        )
    for change in reversed(report["changes"]):
        at = change["at"][:19].replace("T", " ")
        console.print(
            f"  {at}  {change['subject_kind']:<10} {change['subject']:<18} {change['what']}  "
            f"({change['author']}: {change['reason']})",
            markup=False,
        )
    if live := report["live"]:
        whole = sum(share["weight"] for share in live["shares"]) or 1
        parts = ", ".join(
            f"{share['variant']['variant_id']} {100 * share['weight'] / whole:g} %"
            + (f" ({share['arm']})" if share["arm"] else "")
            for share in live["shares"]
        )
        console.print(f"  live: {live['scope']} revision {live['revision']}: {parts}", markup=False)


@loop.group()
def policy() -> None:
    """How the loop of a scope goes: when to train, what gates ask for, how experiments are decided."""


@policy.command(name="set")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--corpus", help="Whose loop. Default: the tenant's.")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def set_policy(*, file: Path, corpus: str | None, reason: str, data: Path | None, as_json: bool) -> int:
    """Declare the policy in FILE (YAML)."""
    where = platform(data)
    changed = declare(where, scope_of(where, corpus), file.read_text(encoding="utf-8"), reason=reason)
    emit(
        document(changed),
        as_json=as_json,
        human=lambda: console.print(f"  {changed.scope}, revision {changed.revision}", markup=False),
    )
    return DONE


def declare(where: Platform, scope: str, text: str, *, reason: str) -> Any:
    """Sets the scope's policy, whatever it was before."""
    with calls(where, "registry", registry_grpc.RegistryServiceStub) as service:
        present = service.GetLoopPolicy(registry.GetLoopPolicyRequest(scope=scope)).loop
        return service.SetLoopPolicy(
            registry.SetLoopPolicyRequest(
                scope=scope,
                yaml=text,
                expected_revision=present.revision if present.scope == scope else 0,
                author=author(),
                reason=reason,
            )
        ).loop


@policy.command(name="show")
@click.option("--corpus", help="Whose loop. Default: the tenant's.")
@data_option
@json_option
def show_policy(*, corpus: str | None, data: Path | None, as_json: bool) -> int:
    """Show the policy that holds, and where it comes from."""
    where = platform(data)
    with calls(where, "registry", registry_grpc.RegistryServiceStub) as service:
        found = service.GetLoopPolicy(registry.GetLoopPolicyRequest(scope=scope_of(where, corpus)))

    def human() -> None:
        console.print(
            f"  from {found.loop.scope or 'the built-in default'}, revision {found.loop.revision}, "
            f"{moment(found.loop.changed_at)}",
            markup=False,
        )
        console.print(found.yaml, markup=False)

    emit(document(found), as_json=as_json, human=human)
    return DONE


@loop.command()
@click.option("--corpus", required=True, help="Corpus to ask; the dataset's documents are put into it where missing.")
@click.option(
    "--dataset", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False), help="BEIR layout."
)
@click.option("--users", default=250, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--events", default=2500, show_default=True, type=click.IntRange(1, 1_000_000), help="Feedbacks.")
@click.option("--noise", default=0.15, show_default=True, type=click.FloatRange(0, 0.5), help="Share judged wrongly.")
@click.option("--silent", default=0.2, show_default=True, type=click.FloatRange(0, 0.99), help="Share of asks left so.")
@click.option("--adversaries", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share of the users.")
@click.option("--sabotage", is_flag=True, help="Train a candidate on reversed labels: it must not be promoted.")
@click.option("--seed", default=0, show_default=True)
@click.option("--experiment-asks", default=6000, show_default=True, help="Questions the experiment may take at most.")
@click.option("--patience", default=180.0, show_default=True, help="Seconds to wait for a candidate.")
@click.option("--concurrency", default=8, show_default=True, help="Questions in flight.")
@data_option
@json_option
def simulate(*, data: Path | None, as_json: bool, **options: Any) -> int:
    """Let simulated people ask about half of the documents and react; see what that did for the other half."""
    from anabranch_cli.people import Plan  # noqa: PLC0415  as the next
    from anabranch_cli.simulation import Simulation  # noqa: PLC0415  numpy and ir_measures take a second

    simulation = Simulation(platform(data), Plan(**options), quiet=as_json)
    began = datetime.now(UTC)
    report = asyncio.run(simulation.run())
    report["seconds"] = round((datetime.now(UTC) - began).total_seconds(), 1)

    def human() -> None:
        for name, value in report.items():
            console.print(f"  {name:<22} {'-' if value is None else value}", markup=False)

    emit(report, as_json=as_json, human=human)
    return FAILED if options["sabotage"] and report["promoted"] else DONE
