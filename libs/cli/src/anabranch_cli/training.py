"""`anabranch train`: a candidate from feedback, now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1 import training_service_pb2_grpc as pb_grpc
from anabranch_cli.connection import data_option, platform
from anabranch_cli.internal import author, calls, document
from anabranch_cli.output import DONE, FAILED, console, emit, json_option
from anabranch_faults import Transient

RECIPES: Final = {
    "reranker": pb.RECIPE_RERANKER,
    "reward": pb.RECIPE_REWARD,
    "dpo": pb.RECIPE_ADAPTER_DPO,
    "sft": pb.RECIPE_ADAPTER_SFT,
}
ENDED: Final = (pb.TRAINING_STATE_DONE, pb.TRAINING_STATE_FAILED, pb.TRAINING_STATE_CANCELLED)


@click.command()
@click.option("--corpus", required=True, help="Whose feedback, and whose traffic the candidate is for.")
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="reranker", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--withheld", is_flag=True, help="Register the model; do not put it on its way to traffic.")
@click.option("--no-wait", is_flag=True, help="Return once it has begun.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait for its end.")
@click.option("--reason", default="trained by hand", show_default=True, help="Kept in the audit.")
@data_option
@json_option
def train(
    *,
    corpus: str,
    recipe: str,
    seed: int,
    withheld: bool,
    no_wait: bool,
    timeout: float,
    reason: str,
    data: Path | None,
    as_json: bool,
) -> int:
    """Train a candidate from the corpus's feedback."""
    where = platform(data)
    request = pb.StartTrainingRequest(
        tenant=where.tenant,
        corpus=corpus,
        recipe=RECIPES[recipe],
        seed=seed,
        withheld=withheld,
        author=author(),
        reason=reason,
    )
    with calls(where, "training", pb_grpc.TrainingServiceStub) as service:
        run = service.StartTraining(request).training
        if not no_wait:
            run = ended(service, run.run_id, timeout=timeout)
    report = document(run)

    def human() -> None:
        console.print(f"  {run.run_id}: {state_of(run)}  {run.dataset_version}  {run.model_version}", markup=False)
        for name, value in sorted(run.metrics.items()):
            console.print(f"    {name:<28} {value:.4f}", markup=False)
        if run.problem:
            console.print(f"    {run.problem}", markup=False)

    emit(report, as_json=as_json, human=human)
    return FAILED if run.state in {pb.TRAINING_STATE_FAILED, pb.TRAINING_STATE_CANCELLED} else DONE


def state_of(run: pb.Training) -> str:
    """`done`, `failed`, ..."""
    return pb.TrainingState.Name(run.state).removeprefix("TRAINING_STATE_").lower().replace("_", " ")


def ended(service: Any, run_id: str, *, timeout: float) -> pb.Training:
    """The run once it has ended. Raises Transient when that takes longer than `timeout` seconds."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        run: pb.Training = service.GetTraining(pb.GetTrainingRequest(run_id=run_id)).training
        if run.state in ENDED:
            return run
        time.sleep(0.1)
    raise Transient(f"run {run_id} has not ended after {timeout:g} s; it goes on: see `anabranch loop`")
