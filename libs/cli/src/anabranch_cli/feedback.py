"""`anabranch feedback`: what a person made of an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import grpc

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.gateway.v1 import gateway_service_pb2_grpc as pb_grpc
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_cli.connection import Platform, data_option, platform
from anabranch_cli.internal import DEADLINE, author
from anabranch_cli.output import DONE, console, emit, json_option
from anabranch_client.errors import fault_from


@click.command()
@click.argument("answer_id")
@click.option("--up", "thumb", flag_value="up", help="It helped.")
@click.option("--down", "thumb", flag_value="down", help="It did not.")
@click.option("--rating", type=int, help="Stars, 1 to 5.")
@click.option("--reason", "reasons", multiple=True, help="With --rating: wrong, outdated, incomplete, ... (repeatable)")
@click.option("--correct", help="The right answer.")
@click.option("--relevant", metavar="CHUNK", help="A passage that was shown, and fits.")
@click.option("--irrelevant", metavar="CHUNK", help="A passage that was shown, and does not fit.")
@click.option("--better-than", metavar="ANSWER_ID", help="Another answer, which this one beats.")
@click.option("--comment", default="", help="Free text; personal data in it is redacted.")
@click.option("--user", help="Who gives it. Default: you.")
@data_option
@json_option
def feedback(
    *,
    answer_id: str,
    thumb: str | None,
    rating: int | None,
    reasons: tuple[str, ...],
    correct: str | None,
    relevant: str | None,
    irrelevant: str | None,
    better_than: str | None,
    comment: str,
    user: str | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Say what ANSWER_ID was worth. Given again by the same person, the last one holds."""
    kinds: dict[str, Any] = {}
    if thumb:
        kinds["thumb"] = upstream.Thumb(up=thumb == "up")
    if rating is not None:
        kinds["rating"] = upstream.Rating(stars=max(rating, 0), reasons=reasons)
    if correct is not None:
        kinds["correction"] = upstream.Correction(text=correct)
    if better_than is not None:
        kinds["preference"] = upstream.Preference(other_answer_id=better_than)
    chunk = relevant if relevant is not None else irrelevant
    if chunk is not None:
        kinds["citation"] = upstream.CitationJudgment(chunk_id=chunk, relevant=relevant is not None)
    if len(kinds) != 1 or (relevant is not None and irrelevant is not None):
        raise click.UsageError(
            "give exactly one of --up, --down, --rating, --correct, --relevant, --irrelevant, --better-than"
        )
    given = give(
        platform(data),
        pb.GiveFeedbackRequest(answer_id=answer_id, user_id=user or author(), comment=comment, **kinds),
    )
    report = {"feedback_id": given.feedback_id, "revision": given.revision, "joined": given.joined}

    def human() -> None:
        state = "joined to its answer" if given.joined else "kept until the answer's record arrives"
        console.print(f"  {given.feedback_id}, revision {given.revision}, {state}")

    emit(report, as_json=as_json, human=human)
    return DONE


def give(where: Platform, request: pb.GiveFeedbackRequest) -> pb.GiveFeedbackResponse:
    """One feedback through the gateway, as an app would give it."""
    with grpc.insecure_channel(where.endpoint) as channel:
        try:
            response: pb.GiveFeedbackResponse = pb_grpc.FeedbackServiceStub(channel).GiveFeedback(
                request, timeout=DEADLINE, metadata=(("authorization", f"Bearer {where.key}"),)
            )
        except grpc.RpcError as error:
            raise fault_from(error) from error
    return response
