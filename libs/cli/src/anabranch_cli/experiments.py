"""`anabranch experiment`, `promote`, `rollback`, `approve`: what serves whom, and who changed it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import yaml
from google.protobuf.json_format import ParseDict, ParseError

from anabranch.evaluation.v1 import evaluation_service_pb2 as evaluation
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as evaluation_grpc
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1 import loop_pb2 as loop
from anabranch.registry.v1 import registry_service_pb2 as pb
from anabranch.registry.v1 import registry_service_pb2_grpc as pb_grpc
from anabranch_cli.connection import data_option, platform
from anabranch_cli.internal import author, calls, document, moment, scope_of
from anabranch_cli.output import DONE, console, emit, json_option
from anabranch_faults import Invalid

PERCENT = 100
"""An arm's weight is in hundredths of a percent."""


@click.group()
def experiment() -> None:
    """Compare variants on live traffic."""


@experiment.command()
@click.argument("name")
@click.option("--corpus", help="Whose traffic. Default: the tenant's.")
@click.option("--control", required=True, metavar="VARIANT", help="What serves now.")
@click.option("--arm", "arms", multiple=True, required=True, metavar="NAME=VARIANT:PERCENT", help="A treatment.")
@click.option("--design", type=click.Path(path_type=Path, exists=True), help="ExperimentDesign as YAML.")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def create(
    *,
    name: str,
    corpus: str | None,
    control: str,
    arms: tuple[str, ...],
    design: Path | None,
    reason: str,
    data: Path | None,
    as_json: bool,
) -> int:
    """Start experiment NAME. What the arms leave of the traffic stays with the control."""
    treatments = [treatment(each) for each in arms]
    left = 100 * PERCENT - sum(each.weight for each in treatments)
    where = platform(data)
    request = pb.CreateExperimentRequest(
        name=name,
        scope=scope_of(where, corpus),
        arms=[lineage.Arm(name="control", variant_id=control, weight=max(left, 0), control=True), *treatments],
        design=designed(design),
        author=author(),
        reason=reason,
    )
    with calls(where, "registry", pb_grpc.RegistryServiceStub) as registry:
        begun = registry.CreateExperiment(request).experiment
    emit(document(begun), as_json=as_json, human=lambda: show_experiment(begun))
    return DONE


def treatment(text: str) -> lineage.Arm:
    """`NAME=VARIANT:PERCENT` as an arm."""
    try:
        name, rest = text.split("=", 1)
        variant, percent = rest.rsplit(":", 1)
        return lineage.Arm(name=name, variant_id=variant, weight=round(float(percent) * PERCENT))
    except ValueError as error:
        raise click.UsageError(f"--arm {text!r} is not NAME=VARIANT:PERCENT, such as b=v-123456789abc:50") from error


def designed(path: Path | None) -> loop.ExperimentDesign:
    """The file's design; without a file, the registry's defaults."""
    if path is None:
        return loop.ExperimentDesign()
    try:
        return ParseDict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, loop.ExperimentDesign())
    except (yaml.YAMLError, ParseError) as error:
        raise Invalid(f"{path.name} is no experiment design: {error}", field="design") from error


@experiment.command()
@click.option("--corpus", help="Only of this corpus.")
@data_option
@json_option
def ls(*, corpus: str | None, data: Path | None, as_json: bool) -> int:
    """List experiments, newest first."""
    where = platform(data)
    with calls(where, "registry", pb_grpc.RegistryServiceStub) as registry:
        scope = scope_of(where, corpus) if corpus else ""
        found = registry.ListExperiments(pb.ListExperimentsRequest(scope=scope, page_size=100)).experiments
    report = {"experiments": [document(each) for each in found]}

    def human() -> None:
        for each in found:
            show_experiment(each)
        if not found:
            console.print("  no experiment yet")

    emit(report, as_json=as_json, human=human)
    return DONE


@experiment.command()
@click.argument("experiment_id")
@data_option
@json_option
def show(*, experiment_id: str, data: Path | None, as_json: bool) -> int:
    """Show an experiment with what is measured now."""
    where = platform(data)
    with calls(where, "registry", pb_grpc.RegistryServiceStub) as registry:
        found = registry.GetExperiment(pb.GetExperimentRequest(experiment_id=experiment_id)).experiment
    with calls(where, "evaluation", evaluation_grpc.EvaluationServiceStub) as service:
        known = service.GetExperimentReport(evaluation.GetExperimentReportRequest(experiment_id=experiment_id))
    report = document(known) | {"experiment": document(found)}

    def human() -> None:
        show_experiment(found)
        for arm in known.arms:
            bounds = f" ({arm.low:+.3f} to {arm.high:+.3f})" if arm.difference or arm.low or arm.high else ""
            console.print(
                f"    {arm.arm:<12} {arm.exposed_users:>6} people, {arm.measured_users:>6} measured, "
                f"mean {arm.mean:.3f}, difference {arm.difference:+.3f}{bounds}"
            )
            if arm.unmeasured_guards:
                console.print(f"      guards without a measurement: {', '.join(arm.unmeasured_guards)}", markup=False)
        console.print(f"    {known.verdict}", markup=False)

    emit(report, as_json=as_json, human=human)
    return DONE


@experiment.command()
@click.argument("experiment_id")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def stop(*, experiment_id: str, reason: str, data: Path | None, as_json: bool) -> int:
    """End an experiment; its control serves everyone again."""
    where = platform(data)
    with calls(where, "registry", pb_grpc.RegistryServiceStub) as registry:
        ended = registry.StopExperiment(
            pb.StopExperimentRequest(experiment_id=experiment_id, author=author(), reason=reason)
        ).experiment
    emit(document(ended), as_json=as_json, human=lambda: show_experiment(ended))
    return DONE


def show_experiment(each: lineage.Experiment) -> None:
    """An experiment and its arms."""
    phase = lineage.ExperimentPhase.Name(each.phase).removeprefix("EXPERIMENT_PHASE_").lower()
    console.print(f"  {each.experiment_id}  {each.scope}  {phase}  {each.name}", markup=False)
    for arm in each.arms:
        stopped = ", stopped" if arm.stopped else ""
        console.print(f"    {arm.name:<12} {arm.variant_id}  {arm.weight / PERCENT:g} %{stopped}", markup=False)
    if each.outcome:
        console.print(f"    {each.outcome}", markup=False)


@click.command()
@click.argument("candidate_or_variant")
@click.option("--corpus", help="With a variant: whose traffic. Default: the tenant's.")
@click.option("--whole", is_flag=True, help="No holdout: what served before gets nothing.")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def promote(
    *, candidate_or_variant: str, corpus: str | None, whole: bool, reason: str, data: Path | None, as_json: bool
) -> int:
    """Give the traffic to a candidate (ca-...) or a variant (v-...), whatever experiments show."""
    where = platform(data)
    request = pb.PromoteRequest(author=author(), reason=reason, whole=whole)
    if candidate_or_variant.startswith("ca-"):
        request.candidate_id = candidate_or_variant
    else:
        request.variant_id, request.scope = candidate_or_variant, scope_of(where, corpus)
    with calls(where, "registry", pb_grpc.RegistryServiceStub) as registry:
        routing = registry.Promote(request).routing
    emit(document(routing), as_json=as_json, human=lambda: show_routing(routing))
    return DONE


@click.command()
@click.option("--corpus", help="Whose traffic. Default: the tenant's.")
@click.option("--to", "revision", type=int, default=0, help="Revision of the routing to go back to.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Kept in the audit.")
@data_option
@json_option
def rollback(*, corpus: str | None, revision: int, reason: str, data: Path | None, as_json: bool) -> int:
    """Go back to what served before the last promotion, on every gateway, and stop the experiment."""
    where = platform(data)
    began = time.monotonic()
    request = pb.RollbackRequest(
        scope=scope_of(where, corpus), to_revision=max(revision, 0), author=author(), reason=reason
    )
    with calls(where, "registry", pb_grpc.RegistryServiceStub) as registry:
        done = registry.Rollback(request)
    report: dict[str, Any] = document(done) | {"milliseconds": round((time.monotonic() - began) * 1e3, 1)}

    def human() -> None:
        show_routing(done.routing)
        if done.candidate_id:
            console.print(f"    {done.candidate_id} was rolled back", markup=False)

    emit(report, as_json=as_json, human=human)
    return DONE


def show_routing(routing: Any) -> None:
    """A scope's shares."""
    console.print(f"  {routing.scope}, revision {routing.revision}, {moment(routing.changed_at)}", markup=False)
    whole = sum(share.weight for share in routing.shares) or 1
    for share in routing.shares:
        arm = f"  {share.experiment_id} {share.arm}" if share.experiment_id else ""
        console.print(f"    {share.variant.variant_id}  {100 * share.weight / whole:g} %{arm}", markup=False)


@click.command()
@click.argument("candidate_id")
@click.argument("step", type=click.Choice(["canary", "experiment", "promotion"]))
@click.option("--reject", is_flag=True, help="Say no.")
@click.option("--reason", required=True, help="Kept in the audit.")
@data_option
@json_option
def approve(*, candidate_id: str, step: str, reject: bool, reason: str, data: Path | None, as_json: bool) -> int:
    """Let a candidate take the STEP it waits for."""
    where = platform(data)
    request = pb.ApproveRequest(candidate_id=candidate_id, step=step, rejected=reject, author=author(), reason=reason)
    with calls(where, "registry", pb_grpc.RegistryServiceStub) as registry:
        candidate = registry.Approve(request).candidate
    state = lineage.CandidateState.Name(candidate.state).removeprefix("CANDIDATE_STATE_").lower()
    emit(document(candidate), as_json=as_json, human=lambda: console.print(f"  {candidate_id}: {state}", markup=False))
    return DONE
