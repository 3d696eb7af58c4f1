"""`anabranch eval cascade`: what other thresholds of a cheap-first variant would have been worth and cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as stubs
from anabranch_cli.connection import data_option, platform
from anabranch_cli.internal import calls, document
from anabranch_cli.output import DONE, console, emit, json_option

__all__ = ["cascade"]

SHOWN = 10
"""Pairs of thresholds shown to people; --json has all."""


@click.command()
@click.option("--corpus", default="", help="Only this corpus.")
@click.option("--variant", default="", help="Only answers of this variant.")
@click.option("--since-days", type=click.FloatRange(min=0), default=30, show_default=True, help="Days to look back.")
@click.option(
    "--keep",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.95,
    show_default=True,
    help="Share of the strong model's satisfaction to keep.",
)
@data_option
@json_option
def cascade(*, corpus: str, variant: str, since_days: float, keep: float, data: Path | None, as_json: bool) -> int:
    """Estimate thresholds from answers whose model was dealt at random (the cascade's `explore`)."""
    where = platform(data)
    request = pb.EstimateCascadeRequest(tenant=where.tenant, corpus=corpus, variant_id=variant, keep=keep)
    request.since.FromDatetime(datetime.now(UTC) - timedelta(days=since_days))
    with calls(where, "evaluation", stubs.EvaluationServiceStub) as service:
        response = service.EstimateCascade(request)
    report = document(response)
    report["best"] = document(response.best) if response.HasField("best") else None
    emit(report, as_json=as_json, human=lambda: _show(report))
    return DONE


def _show(report: dict[str, Any]) -> None:
    table = Table("", "skip above", "escalate below", "satisfaction", "95 %", report["cost_unit"], "strong", box=None)
    for name, one in (("strong", report["strong"]), ("cheap", report["cheap"]), ("best", report["best"])):
        if one is not None:
            table.add_row(name, *_row(one))
    for one in report["estimates"][:SHOWN]:
        table.add_row("", *_row(one))
    console.print(table)
    if report["best"] is None:
        console.print("  no thresholds are sure to keep that much and to cost less")
    console.print(f"  from {report['answers']} answers that were dealt at random and judged")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{one['skip_above']:.1f}",
        f"{one['escalate_below']:.1f}",
        f"{one['value']:.3f}",
        f"{one['low']:.3f} to {one['high']:.3f}",
        f"{one['cost']:.1f}",
        f"{one['strong_share']:.0%}",
    )
