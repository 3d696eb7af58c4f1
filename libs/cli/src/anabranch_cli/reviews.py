"""`anabranch review`: answers that wait for a rater, a rater's judgment, and how far raters agree."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import click

from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1 import feedback_service_pb2_grpc as pb_grpc
from anabranch.upstream.v1.feedback_pb2 import Review
from anabranch_cli.connection import data_option, platform
from anabranch_cli.internal import author, calls, document, moment
from anabranch_cli.output import DONE, console, emit, json_option

LINE = 160
"""Characters of a passage that are shown to people; --json has all of it."""


@click.group()
def review() -> None:
    """Judge answers that were sampled for people, and see how far the judges agree."""


@review.command()
@click.option("--corpus", help="Only of this corpus.")
@click.option("--rater", help="Whose work: what this person did is left out. Default: you.")
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="At most so many.")
@data_option
@json_option
def ls(*, corpus: str | None, rater: str | None, limit: int, data: Path | None, as_json: bool) -> int:
    """List answers that wait for you, those that wait longest first, with what they were drawn from."""
    where = platform(data)
    request = pb.ListReviewsRequest(tenant=where.tenant, corpus=corpus or "", rater_id=rater or author(), limit=limit)
    with calls(where, "feedback", pb_grpc.FeedbackServiceStub) as service:
        items = service.ListReviews(request).items
    report = {"items": [document(item) for item in items]}

    def human() -> None:
        for item in items:
            show_item(item)
        if not items:
            console.print("  nothing waits for you")

    emit(report, as_json=as_json, human=human)
    return DONE


def show_item(item: pb.ReviewItem) -> None:
    """An answer as a rater needs to see it."""
    answer = item.answer
    console.print(
        f"  {item.review_id}  {item.sampled_by}, {moment(item.queued_at)}, {item.reviews_done} done", markup=False
    )
    console.print(f"    {answer.corpus}: {answer.question}", markup=False)
    console.print(f"    {answer.answer or '(it abstained)'}", markup=False)
    for passage in answer.passages:
        text = " ".join(passage.text.split())
        shown = text if len(text) <= LINE else f"{text[:LINE]}…"
        console.print(f"      {passage.chunk_id}  {shown}", markup=False)


@review.command()
@click.argument("review_id")
@click.option("--stars", type=click.IntRange(1, 5), help="What the answer is worth.")
@click.option("--rank", "ranked", multiple=True, metavar="CHUNK", help="A passage, best first (repeatable).")
@click.option("--relevant", multiple=True, metavar="CHUNK", help="A passage that fits the question (repeatable).")
@click.option("--skip", is_flag=True, help="You cannot tell: the answer does not come to you again.")
@click.option("--comment", default="", help="Free text; personal data in it is redacted.")
@click.option("--rater", help="Who judges. Default: you.")
@data_option
@json_option
def submit(
    *,
    review_id: str,
    stars: int | None,
    ranked: tuple[str, ...],
    relevant: tuple[str, ...],
    skip: bool,
    comment: str,
    rater: str | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Judge REVIEW_ID. Judged again by the same rater, the last judgment holds."""
    if skip == (stars is not None):
        raise click.UsageError("give either --stars or --skip")
    where = platform(data)
    # What is relevant is part of a ranking: after what was ranked, in the order given.
    ranking = [*ranked, *(chunk for chunk in relevant if chunk not in ranked)]
    request = pb.SubmitReviewRequest(
        tenant=where.tenant,
        review_id=review_id,
        rater_id=rater or author(),
        review=Review(stars=stars or 0, ranking=ranking, relevant=relevant, skipped=skip),
        comment=comment,
    )
    with calls(where, "feedback", pb_grpc.FeedbackServiceStub) as service:
        kept = service.SubmitReview(request)
    emit(document(kept), as_json=as_json, human=lambda: console.print(f"  kept as {kept.feedback_id}"))
    return DONE


@review.command()
@click.option("--corpus", help="Only of this corpus.")
@data_option
@json_option
def agreement(*, corpus: str | None, data: Path | None, as_json: bool) -> int:
    """Tell how far raters agree beyond chance, over answers that at least two judged."""
    where = platform(data)
    request = pb.GetAgreementRequest(tenant=where.tenant, corpus=corpus or "")
    with calls(where, "feedback", pb_grpc.FeedbackServiceStub) as service:
        found = service.GetAgreement(request)
    report = {
        "kappa": _defined(found.kappa),
        "kappa_low": _defined(found.kappa_low),
        "kappa_high": _defined(found.kappa_high),
        "weighted_kappa": _defined(found.weighted_kappa),
        "answers": found.answers,
        "raters": found.raters,
    }

    def human() -> None:
        console.print(f"  {found.answers} answers with at least two of {found.raters} raters")
        if not isnan(found.kappa):
            bounds = f"{found.kappa_low:.2f} to {found.kappa_high:.2f}"
            console.print(f"  kappa on good (4, 5 stars) or not: {found.kappa:.2f} ({bounds})")
        if not isnan(found.weighted_kappa):
            console.print(f"  weighted kappa on stars: {found.weighted_kappa:.2f}")
        if isnan(found.kappa):
            console.print("  kappa is not defined: too few answers, or all were judged alike")

    emit(report, as_json=as_json, human=human)
    return DONE


def _defined(kappa: float) -> float | None:
    return None if isnan(kappa) else kappa
