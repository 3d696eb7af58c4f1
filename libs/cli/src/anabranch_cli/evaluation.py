"""`anabranch eval retrieval` and `anabranch eval answers`: a dataset against the running platform."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import ir_measures
from ir_measures import RR, R, nDCG

from anabranch_cli import golden
from anabranch_cli.cascades import cascade
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.datasets import matching, read_qrels, read_queries
from anabranch_cli.output import DONE, console, emit, json_option, progress
from anabranch_cli.questions import pairs
from anabranch_cli.scoring import AnswerScores
from anabranch_client import AsyncAnabranch
from anabranch_client.results import Answer
from anabranch_faults import Invalid

Row = dict[str, Any]
T = TypeVar("T")

HITS = 100
"""Hits asked for in `eval retrieval`: what Recall@100 needs."""

MEASURES = {"ndcg@10": nDCG @ 10, "mrr@10": RR @ 10, "recall@100": R @ 100}


@click.group(name="eval")
def eval_() -> None:
    """Measure the running platform on a dataset in BEIR layout."""


eval_.add_command(golden.dataset)
eval_.add_command(golden.run)
eval_.add_command(golden.compare)
eval_.add_command(golden.gate)
eval_.add_command(cascade)


def dataset_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options that both measurements share."""
    for option in (
        click.option("--concurrency", default=4, show_default=True, help="Questions in flight."),
        click.option("--limit", type=int, help="Only the first N questions."),
        click.option("--where", multiple=True, metavar="FIELD=VALUE", help="Only rows whose field has this value."),
        click.option(
            "--dataset",
            required=True,
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            help="Folder with queries.jsonl (and qrels.tsv).",
        ),
        click.option("--corpus", required=True, help="Corpus the dataset was put into."),
    ):
        command = option(command)
    return command


@eval_.command()
@dataset_options
@data_option
@json_option
def retrieval(
    *,
    corpus: str,
    dataset: Path,
    where: tuple[str, ...],
    limit: int | None,
    concurrency: int,
    data: Path | None,
    as_json: bool,
) -> int:
    """nDCG@10, MRR@10 and Recall@100 by ir-measures. A document's rank is that of its best chunk."""
    qrels = read_qrels(dataset / "qrels.tsv")
    rows = [row for row in selected(dataset, where, limit) if row["_id"] in qrels]
    if not rows:
        raise Invalid("no query of the dataset has a relevance judgment", field="dataset")

    async def one(client: AsyncAnabranch, row: Row) -> dict[str, float]:
        found = await client.search(row["text"], corpus=corpus, limit=HITS, timeout=timedelta(seconds=30))
        scores: dict[str, float] = {}
        # Strictly falling scores by rank: ties between chunks must not be reordered by the measuring library.
        for rank, hit in enumerate(found.hits):
            scores.setdefault(hit.document_id, float(HITS - rank))
        return scores

    results = asyncio.run(each(platform(data), rows, one, concurrency=concurrency, quiet=as_json))
    run = {row["_id"]: scores for row, scores in zip(rows, results, strict=True)}
    judged = {row["_id"]: qrels[row["_id"]] for row in rows}
    measured = ir_measures.calc_aggregate(list(MEASURES.values()), judged, run)
    report: Row = {name: round(float(measured[measure]), 4) for name, measure in MEASURES.items()}
    report["queries"] = len(rows)
    emit(report, as_json=as_json, human=lambda: table(report))
    return DONE


@eval_.command()
@dataset_options
@data_option
@json_option
def answers(
    *,
    corpus: str,
    dataset: Path,
    where: tuple[str, ...],
    limit: int | None,
    concurrency: int,
    data: Path | None,
    as_json: bool,
) -> int:
    """EM, F1, containment, citation precision and abstention against known answers."""
    rows = selected(dataset, where, limit)

    async def one(client: AsyncAnabranch, row: Row) -> Answer:
        return await client.ask(row["text"], corpus=corpus, timeout=timedelta(seconds=120))

    results = asyncio.run(each(platform(data), rows, one, concurrency=concurrency, quiet=as_json))
    scores = AnswerScores()
    for row, answer in zip(rows, results, strict=True):
        cited = [citation.text for citation in answer.citations]
        scores.add(row, text=answer.text, abstained=answer.abstained, cited=cited)
    report = {name: round(value, 4) if isinstance(value, float) else value for name, value in scores.report().items()}
    emit(report, as_json=as_json, human=lambda: table(report))
    return DONE


def selected(dataset: Path, where: Sequence[str], limit: int | None) -> list[Row]:
    """The dataset's queries after --where and --limit. Raises Invalid when none is left."""
    rows = matching(read_queries(dataset / "queries.jsonl"), pairs(where))[:limit]
    if not rows:
        raise Invalid("no query is left", field="where")
    return rows


async def each(
    where: Platform,
    rows: Sequence[Row],
    one: Callable[[AsyncAnabranch, Row], Awaitable[T]],
    *,
    concurrency: int,
    quiet: bool,
) -> list[T]:
    """Runs `one` over all rows, `concurrency` at a time; results in the rows' order. The first error ends it."""
    gate = asyncio.Semaphore(concurrency)
    async with where.async_client() as client:
        with progress("questions", len(rows), quiet=quiet) as advance:

            async def gated(row: Row) -> T:
                async with gate:
                    result = await one(client, row)
                advance(1)
                return result

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(gated(row)) for row in rows]
    return [task.result() for task in tasks]


def table(report: Row) -> None:
    """One line a figure."""
    for name, value in report.items():
        console.print(f"  {name:<30} {'-' if value is None else value}")
