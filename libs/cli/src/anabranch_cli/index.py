"""`anabranch reindex`: another embedding for a corpus, without a failed query, and the way back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc

from anabranch.retrieval.v1 import retrieval_service_pb2 as pb
from anabranch.retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from anabranch_cli.connection import data_option, platform
from anabranch_cli.output import DONE, FAILED, console, emit, json_option, progress
from anabranch_client.errors import fault_from
from anabranch_faults import Invalid, NotFound

DEADLINE = 30.0
"""Seconds for one call; the reindex itself goes on in the service."""

ENDED = (pb.REINDEX_STATE_SWAPPED, pb.REINDEX_STATE_ROLLED_BACK, pb.REINDEX_STATE_FAILED)

T = TypeVar("T")


@click.command()
@click.option("--corpus", required=True, help="Corpus to rebuild.")
@click.option("--to", "to_version", help="Embedding version to build: int8, fp32, or a full version name.")
@click.option("--rollback", is_flag=True, help="Go back to the embedding served before the last swap.")
@click.option("--status", "only_status", is_flag=True, help="Only show how far the last reindex is.")
@click.option("--no-wait", is_flag=True, help="Return once it has begun.")
@data_option
@json_option
def reindex(
    *,
    corpus: str,
    to_version: str | None,
    rollback: bool,
    only_status: bool,
    no_wait: bool,
    data: Path | None,
    as_json: bool,
) -> int:
    """Build CORPUS under another embedding version beside the present one, catch up, swap. Queries go on throughout."""
    if sum((to_version is not None, rollback, only_status)) != 1:
        raise click.UsageError("give one of --to VERSION, --rollback, --status")
    where = platform(data)
    target = where.local_state().targets["retrieval"].split(",")[0]
    with grpc.insecure_channel(target) as channel:
        service = pb_grpc.RetrievalServiceStub(channel)
        names: dict[str, Any] = {"tenant": where.tenant, "corpus": corpus}
        if rollback:
            run = asked(service.RollbackReindex, pb.RollbackReindexRequest(**names)).reindex
        elif only_status:
            run = asked(service.GetReindex, pb.GetReindexRequest(**names)).reindex
        else:
            request = pb.StartReindexRequest(**names, to_version=to_version or "")
            run = asked(service.StartReindex, request).reindex
            if not no_wait:
                run = followed(service, names, run, quiet=as_json)
    report = document(run)

    def human() -> None:
        console.print(f"  {corpus}: {report['from_version']} -> {report['to_version']}: {report['state']}")
        if report["problem"]:
            console.print(f"  {report['problem']}", markup=False)

    emit(report, as_json=as_json, human=human)
    return FAILED if run.state == pb.REINDEX_STATE_FAILED else DONE


def followed(
    service: pb_grpc.RetrievalServiceStub, names: dict[str, Any], run: pb.Reindex, *, quiet: bool
) -> pb.Reindex:
    """Waits for the end of the run, showing how far it is. Stopping the command does not stop the run."""
    with progress("chunks", run.chunks_total or 1, quiet=quiet) as advance:
        shown = 0
        while run.state not in ENDED:
            time.sleep(0.2)
            run = asked(service.GetReindex, pb.GetReindexRequest(**names)).reindex
            advance(run.chunks_done - shown)
            shown = run.chunks_done
    return run


def asked(method: Callable[..., T], request: Any) -> T:
    """One call, its error as a fault."""
    try:
        return method(request, timeout=DEADLINE)
    except grpc.RpcError as error:
        fault = fault_from(error)
        if isinstance(fault, NotFound):
            raise Invalid(str(fault), field="corpus") from error
        raise fault from error


def document(run: pb.Reindex) -> dict[str, Any]:
    """`reindex --json`."""
    return {
        "corpus": run.corpus,
        "from_version": run.from_version,
        "to_version": run.to_version,
        "state": pb.ReindexState.Name(run.state).removeprefix("REINDEX_STATE_").lower(),
        "chunks_done": run.chunks_done,
        "chunks_total": run.chunks_total,
        "problem": run.problem,
    }
