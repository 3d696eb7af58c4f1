"""`anabranch ask` and `anabranch search`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from anabranch_cli.connection import data_option, platform
from anabranch_cli.output import DONE, console, emit, json_option
from anabranch_client import Anabranch
from anabranch_client.results import Answer, Citation, Delta, Finished, Guard, Retrieved, Started, Timings


def milliseconds(span: timedelta) -> float:
    """A duration as milliseconds with two decimals."""
    return round(span / timedelta(milliseconds=1), 2)


def timings_of(timings: Timings) -> dict[str, float]:
    """The contract's `timings_ms`."""
    parts = ("condense", "embed", "search", "generate", "first_token", "total", "guard_input", "guard_output")
    return {part: milliseconds(getattr(timings, part)) for part in parts}


def citations_of(citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """The contract's `citations`."""
    return [
        {
            "document_id": citation.document.document_id,
            "chunk_id": citation.chunk_id,
            "start": citation.span.start,
            "end": citation.span.end,
            "text": citation.text,
            "number": citation.number,
            "version": citation.document.version,
            "title": citation.title,
            "page": citation.page,
            "source_uri": citation.source_uri,
            "support": round(citation.support, 4),
        }
        for citation in citations
    ]


def answer_document(answer: Answer) -> dict[str, Any]:
    """`ask --json`."""
    return {
        "answer_id": answer.answer_id,
        "text": answer.text,
        "abstained": answer.abstained,
        "citations": citations_of(answer.citations),
        "variant": answer.variant_id,
        "search_query": answer.search_query,
        "timings_ms": timings_of(answer.timings),
        "finish_reason": str(answer.finish_reason),
        "guards": [
            {
                "verdict": str(guard.verdict),
                "stage": str(guard.stage),
                "check": guard.check,
                "reason": guard.reason,
            }
            for guard in answer.guards
        ],
        "cached": answer.cached,
        "cost_micros": answer.cost_micros,
    }


def show_guard(guard: Guard) -> None:
    """One line a verdict."""
    who = f"{guard.check} ({guard.stage})" if guard.check else str(guard.stage)
    console.print(
        f"  {who}: {guard.verdict}{f', {guard.reason}' if guard.reason else ''}", style="yellow", markup=False
    )


def show_citations(citations: Sequence[Citation]) -> None:
    """One line a citation."""
    for citation in citations:
        where = f", page {citation.page}" if citation.page else ""
        title = f"{citation.title} " if citation.title else ""
        quoted = " ".join(citation.text.split())
        console.print(
            f"  [{citation.number or '-'}] {title}({citation.document.document_id}{where}, "
            f"{citation.span.start}-{citation.span.end}): “{quoted[:160]}{'…' if len(quoted) > 160 else ''}”",  # noqa: PLR2004  a line
            style="dim",
            markup=False,
        )


@click.command()
@click.argument("question")
@click.option("--corpus", required=True, help="Corpus to answer from.")
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option("--session", "session_id", default="", help="Continue the conversation of this name.")
@click.option("--user", "user_id", default="", help="Who asks; keeps a person in one variant.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Metadata that passages must carry.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait.")
@data_option
@json_option
def ask(
    *,
    question: str,
    corpus: str,
    stream: bool,
    session_id: str,
    user_id: str,
    filters: tuple[str, ...],
    timeout: float,
    data: Path | None,
    as_json: bool,
) -> int:
    """Ask QUESTION and print the answer with its citations."""
    options: dict[str, Any] = {
        "corpus": corpus,
        "session_id": session_id,
        "user_id": user_id,
        "filters": pairs(filters),
        "timeout": timedelta(seconds=timeout),
    }
    with platform(data).client() as client:
        if stream and not as_json:
            show_stream(client, question, options)
            return DONE
        answer = client.ask(question, **options)

    def human() -> None:
        console.print(answer.text, markup=False)
        for guard in answer.guards:
            show_guard(guard)
        show_citations(answer.citations)
        console.print(
            f"  {answer.variant_id}, {milliseconds(answer.timings.total)} ms"
            + (", abstained" if answer.abstained else "")
            + (", from the answer cache" if answer.cached else "")
            + (f", {answer.cost_micros / 1_000_000:.6f} USD" if answer.cost_micros else ""),
            style="dim",
        )

    emit(answer_document(answer), as_json=as_json, human=human)
    return DONE


def show_stream(client: Anabranch, question: str, options: dict[str, Any]) -> None:
    """Prints the events of a streamed answer as they come."""
    variant = ""
    for event in client.ask_stream(question, **options):
        match event:
            case Started():
                variant = event.variant_id
            case Retrieved():
                console.print(f"  {len(event.hits)} passages for “{event.search_query}”", style="dim", markup=False)
            case Delta():
                console.print(event.text, end="", markup=False)
            case Guard():
                console.print()
                show_guard(event)
            case Finished():
                console.print(event.message, markup=False)
                show_citations(event.citations)
                console.print(f"  {variant}, {milliseconds(event.timings.total)} ms", style="dim")


def pairs(values: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE options as a mapping. Raises click.BadParameter."""
    result = {}
    for value in values:
        key, separator, rest = value.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        result[key] = rest
    return result


@click.command()
@click.argument("query")
@click.option("--corpus", required=True, help="Corpus to search.")
@click.option("-k", "limit", default=10, show_default=True, help="Hits wanted, 1 to 100.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Metadata that hits must carry.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait.")
@data_option
@json_option
def search(
    *,
    query: str,
    corpus: str,
    limit: int,
    filters: tuple[str, ...],
    timeout: float,
    data: Path | None,
    as_json: bool,
) -> int:
    """Find the passages of CORPUS that fit QUERY best."""
    with platform(data).client() as client:
        found = client.search(
            query, corpus=corpus, limit=limit, filters=pairs(filters), timeout=timedelta(seconds=timeout)
        )
    document = {
        "hits": [
            {
                "document_id": hit.document_id,
                "chunk_id": hit.chunk_id,
                "score": round(hit.score, 6),
                "text": hit.text,
                "title": hit.title,
                "title_path": list(hit.title_path),
                "page": hit.page,
                "version": hit.version,
            }
            for hit in found.hits
        ],
        "variant": found.variant_id,
        "index_generation": found.index_generation,
    }

    def human() -> None:
        for rank, hit in enumerate(found.hits, start=1):
            heading = " > ".join(part for part in (hit.title, *hit.title_path) if part) or hit.document_id
            console.print(f"{rank:>3}. {hit.score:.3f}  {heading}  ({hit.document_id})", style="bold", markup=False)
            console.print(f"     {' '.join(hit.text.split())[:300]}", markup=False)
        if not found.hits:
            console.print("nothing found")

    emit(document, as_json=as_json, human=human)
    return DONE
