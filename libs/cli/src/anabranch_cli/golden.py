"""`anabranch eval dataset|run|compare|gate`: variants over golden sets, in the evaluation service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import yaml
from google.protobuf.json_format import ParseDict, ParseError

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as pb_grpc
from anabranch.registry.v1 import loop_pb2 as loop
from anabranch_cli.connection import data_option, platform
from anabranch_cli.datasets import read_qrels, read_queries
from anabranch_cli.internal import author, calls, document
from anabranch_cli.output import DONE, FAILED, USAGE, NotRunning, console, emit, json_option, note, progress
from anabranch_cli.scoring import known_answers
from anabranch_faults import Fault, Invalid, Unreachable

GATE_SECONDS = 600.0
"""A gate by hand runs whatever is missing first."""


@click.group()
def dataset() -> None:
    """Golden sets: questions with what is right for them."""


@dataset.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--corpus", required=True, help="Corpus the questions are about.")
@click.option("--slice", "slices", multiple=True, help="Field of queries.jsonl whose values are slices (repeatable).")
@data_option
@json_option
def put(*, name: str, folder: Path, corpus: str, slices: tuple[str, ...], data: Path | None, as_json: bool) -> int:
    """Store FOLDER (BEIR layout) as golden set NAME."""
    where = platform(data)
    questions = golden(folder, slices)
    request = pb.PutDatasetRequest(
        tenant=where.tenant, name=name, corpus=corpus, questions=questions, slices=slices, author=author()
    )
    with calls(where, "evaluation", pb_grpc.EvaluationServiceStub) as service:
        stored = service.PutDataset(request)
    report = document(stored)
    emit(
        report,
        as_json=as_json,
        human=lambda: console.print(f"  {name}: {stored.dataset_version}, {stored.questions} questions", markup=False),
    )
    return DONE


def golden(folder: Path, slices: tuple[str, ...] = ()) -> list[pb.GoldenQuestion]:
    """The folder's questions that have a judgment or an answer."""
    qrels = read_qrels(folder / "qrels.tsv")
    found = [
        pb.GoldenQuestion(
            question_id=str(row["_id"]),
            text=row["text"],
            answers=known_answers(row),
            relevant_documents={key: value for key, value in qrels.get(row["_id"], {}).items() if value > 0},
            metadata={name: str(row[name]) for name in slices if name in row},
            unanswerable=not row.get("answerable", True),
        )
        for row in read_queries(folder / "queries.jsonl")
    ]
    kept = [each for each in found if each.relevant_documents or each.answers or each.unanswerable]
    if not kept:
        raise Invalid(f"{folder} judges none of its questions", field="folder")
    return kept


@dataset.command()
@data_option
@json_option
def ls(*, data: Path | None, as_json: bool) -> int:
    """List golden sets."""
    where = platform(data)
    with calls(where, "evaluation", pb_grpc.EvaluationServiceStub) as service:
        found = service.ListDatasets(pb.ListDatasetsRequest(tenant=where.tenant))

    def human() -> None:
        for each in found.datasets:
            console.print(
                f"  {each.name:<24} {each.dataset_version}  {each.questions:>6} questions on {each.corpus}",
                markup=False,
            )

    emit(document(found), as_json=as_json, human=human)
    return DONE


@click.command()
@click.option("--dataset", "name", required=True, help="Golden set.")
@click.option("--variant", required=True, help="Variant to run over it.")
@click.option("--answers", is_flag=True, help="Also generate and score answers.")
@data_option
@json_option
def run(*, name: str, variant: str, answers: bool, data: Path | None, as_json: bool) -> int:
    """Run VARIANT over a golden set and store every question's scores."""
    where = platform(data)
    with calls(where, "evaluation", pb_grpc.EvaluationServiceStub) as service:
        request = pb.StartRunRequest(tenant=where.tenant, dataset=name, variant_id=variant, answers=answers)
        done = finished(service, service.StartRun(request).run_id, quiet=as_json)

    def human() -> None:
        console.print(f"  {done.run_id}: {variant} on {name} ({done.dataset_version})", markup=False)
        for each in done.metrics:
            label = f"{each.name} [{each.slice}]" if each.slice else each.name
            console.print(f"    {label:<36} {each.value:.4f} ({each.low:.4f} to {each.high:.4f}), n {each.questions}")
        if done.problem:
            console.print(f"    {done.problem}", markup=False)

    emit(document(done), as_json=as_json, human=human)
    return DONE if done.state == pb.RUN_STATE_DONE else FAILED


def finished(service: Any, run_id: str, *, quiet: bool) -> pb.Run:
    """The run once it has ended."""
    found: pb.Run = service.GetRun(pb.GetRunRequest(run_id=run_id)).run
    with progress("questions", found.questions_total or 1, quiet=quiet) as advance:
        shown = 0
        while found.state not in {pb.RUN_STATE_DONE, pb.RUN_STATE_FAILED}:
            time.sleep(0.1)
            found = service.GetRun(pb.GetRunRequest(run_id=run_id)).run
            advance(found.questions_done - shown)
            shown = found.questions_done
    return found


@click.command()
@click.argument("baseline_run")
@click.argument("candidate_run")
@data_option
@json_option
def compare(*, baseline_run: str, candidate_run: str, data: Path | None, as_json: bool) -> int:
    """Set two runs over the same golden set side by side, paired by question."""
    where = platform(data)
    with calls(where, "evaluation", pb_grpc.EvaluationServiceStub) as service:
        found = service.CompareRuns(pb.CompareRunsRequest(baseline_run_id=baseline_run, candidate_run_id=candidate_run))

    def human() -> None:
        for each in (*found.differences, *found.worst_slices):
            label = f"{each.name} [{each.slice}]" if each.slice else each.name
            console.print(
                f"  {label:<36} {each.baseline:.4f} -> {each.candidate:.4f}  {each.difference:+.4f} "
                f"({each.low:+.4f} to {each.high:+.4f}), {each.better} better, {each.worse} worse of {each.questions}"
            )

    emit(document(found), as_json=as_json, human=human)
    return DONE


@click.command()
@click.option("--baseline", required=True, metavar="VARIANT", help="What serves now.")
@click.option("--candidate", required=True, metavar="VARIANT", help="What would serve.")
@click.option("--dataset", "names", multiple=True, help="Golden set (repeatable).")
@click.option("--corpus", default="", help="Corpus, where it is not the golden set's own.")
@click.option("--spec", type=click.Path(path_type=Path, exists=True), help="GateSpec as YAML; options go before it.")
@click.option("--metric", default="", help="What is compared; default ndcg@10.")
@click.option("--no-regression", is_flag=True, help="Fail only with evidence of a loss, not for want of a gain.")
@click.option("--margin", type=click.FloatRange(min=0), help="Loss that is tolerated, in the metric's unit.")
@click.option("--detectable", type=click.FloatRange(min=0), help="Loss that the questions must be enough to see.")
@click.option("--cost-ratio", type=click.FloatRange(min=0), help="Most an answer may cost, by the baseline's.")
@data_option
@json_option
def gate(
    *,
    baseline: str,
    candidate: str,
    names: tuple[str, ...],
    corpus: str,
    spec: Path | None,
    metric: str,
    no_regression: bool,
    margin: float | None,
    detectable: float | None,
    cost_ratio: float | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Compare two variants on golden sets. Exit code 0: passed, 1: not; others: it could not be decided."""
    numbers = {"margin": margin, "detectable": detectable, "cost_ratio": cost_ratio}
    asked = gate_of(spec, names, metric=metric, no_regression=no_regression, numbers=numbers)
    where = platform(data)
    request = pb.DecideGateRequest(
        tenant=where.tenant, corpus=corpus, baseline_variant_id=baseline, candidate_variant_id=candidate, gate=asked
    )
    try:
        with calls(where, "evaluation", pb_grpc.EvaluationServiceStub) as service:
            decided = service.DecideGate(request, timeout=GATE_SECONDS).gate
    except (NotRunning, Unreachable):
        raise
    except Fault as fault:
        # 1 is a verdict: what could not be decided must not look like one.
        note(f"anabranch: {fault}")
        return USAGE

    def human() -> None:
        console.print(f"  {'passed' if decided.passed else 'FAILED'}: {decided.reason}", markup=False)
        for each in decided.checks:
            console.print(
                f"    {'ok  ' if each.passed else 'FAIL'} {each.name:<20} {each.dataset:<20} {each.baseline:.4f} -> "
                f"{each.candidate:.4f} ({each.low:+.4f} to {each.high:+.4f}) {each.reason}",
                markup=False,
            )

    emit(document(decided), as_json=as_json, human=human)
    return DONE if decided.passed else FAILED


def gate_of(
    spec: Path | None, names: tuple[str, ...], *, metric: str, no_regression: bool, numbers: dict[str, float | None]
) -> loop.GateSpec:
    """What is asked of the candidate: the file, then the options. Raises UsageError."""
    asked = loop.GateSpec()
    if spec is not None:
        try:
            ParseDict(yaml.safe_load(spec.read_text(encoding="utf-8")) or {}, asked)
        except (yaml.YAMLError, ParseError) as error:
            raise click.UsageError(f"{spec.name} is no gate: {error}") from error
    asked.datasets.extend(names)
    if not asked.datasets:
        raise click.UsageError("a gate needs a golden set: name one with --dataset, or in --spec")
    if metric:
        asked.metric = metric
    if no_regression:
        asked.mode = loop.GATE_MODE_NO_REGRESSION
    for name, value in numbers.items():
        if value is not None:
            setattr(asked, name, value)
    return asked
