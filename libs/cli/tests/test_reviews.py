"""`anabranch review` against a feedback service that keeps what it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import nan
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1 import feedback_service_pb2_grpc as stubs
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage
from anabranch_cli import reviews
from anabranch_cli.__main__ import run
from anabranch_cli.connection import Platform
from anabranch_cli.output import DONE, FAILED, USAGE


class Reviews(stubs.FeedbackServiceServicer):
    """Has one answer for raters, whom it remembers."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.kappa = 0.5

    def ListReviews(self, request: pb.ListReviewsRequest, context: grpc.ServicerContext) -> pb.ListReviewsResponse:  # noqa: N802  the contract's signature
        self.asked.append(request)
        answer = AnswerServed(corpus="wiki", question="Who was Ada?", answer="A mathematician [1].")
        answer.passages.append(Passage(chunk_id="c1", text="Ada was\na mathematician. " + "More of it. " * 40))
        return pb.ListReviewsResponse(items=[pb.ReviewItem(review_id="r-1", answer=answer, sampled_by="low-score")])

    def SubmitReview(self, request: pb.SubmitReviewRequest, context: grpc.ServicerContext) -> pb.SubmitReviewResponse:  # noqa: N802  the contract's signature
        self.asked.append(request)
        if request.review_id != "r-1":
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no review {request.review_id}")
        return pb.SubmitReviewResponse(feedback_id="f-1")

    def GetAgreement(self, request: pb.GetAgreementRequest, context: grpc.ServicerContext) -> pb.GetAgreementResponse:  # noqa: N802  the contract's signature
        self.asked.append(request)
        return pb.GetAgreementResponse(
            kappa=self.kappa, kappa_low=self.kappa, kappa_high=self.kappa, weighted_kappa=0.4, answers=3, raters=2
        )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reviews]:
    found = Reviews()  # type: ignore[abstract]  # the other methods are not called
    server = grpc.server(ThreadPoolExecutor(1))
    stubs.add_FeedbackServiceServicer_to_server(found, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    state: Any = SimpleNamespace(targets={"feedback": f"127.0.0.1:{port}"})
    where = Platform(endpoint="", key="", kafka="", tenant="acme", state=state)
    monkeypatch.setattr(reviews, "platform", lambda _data: where)
    yield found
    server.stop(None)


def test_what_waits_is_listed_for_the_rater_with_its_passages(
    service: Reviews, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["review", "ls", "--corpus", "wiki", "--rater", "ada", "--limit", "3"]) == DONE
    shown = capsys.readouterr().out
    assert service.asked == [pb.ListReviewsRequest(tenant="acme", corpus="wiki", rater_id="ada", limit=3)]
    for part in ("r-1  low-score", "wiki: Who was Ada?", "A mathematician [1].", "c1  Ada was a mathematician."):
        assert part in shown
    assert run(["review", "ls", "--json"]) == DONE
    (item,) = json.loads(capsys.readouterr().out)["items"]
    assert (item["review_id"], len(item["answer"]["passages"][0]["text"]) > 400) == ("r-1", True)


def test_a_judgment_ranks_what_it_calls_relevant(service: Reviews, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["review", "submit", "r-1", "--stars", "4", "--rank", "c2", "--relevant", "c2", "--relevant", "c1"]
    assert run([*command, "--rater", "ada", "--comment", "Fine.", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out) == {"feedback_id": "f-1"}
    (asked,) = service.asked
    assert (asked.tenant, asked.rater_id, asked.comment, asked.review.stars) == ("acme", "ada", "Fine.", 4)
    assert (list(asked.review.ranking), list(asked.review.relevant)) == (["c2", "c1"], ["c2", "c1"])
    assert run(["review", "submit", "r-1", "--skip"]) == DONE
    assert (service.asked[-1].review.skipped, service.asked[-1].review.stars) == (True, 0)


@pytest.mark.parametrize("options", [[], ["--stars", "3", "--skip"], ["--stars", "7"]])
def test_a_judgment_that_says_nothing_or_two_things_is_wrong_usage(service: Reviews, options: list[str]) -> None:
    assert run(["review", "submit", "r-1", *options]) == USAGE
    assert service.asked == []


def test_a_review_nobody_asked_for_is_a_failure_in_words(service: Reviews, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["review", "submit", "r-9", "--stars", "1"]) == FAILED
    assert "there is no review r-9" in capsys.readouterr().err
    assert len(service.asked) == 1


def test_agreement_is_told_and_is_null_where_it_is_not_defined(
    service: Reviews, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["review", "agreement"]) == DONE
    assert "0.50 (0.50 to 0.50)" in capsys.readouterr().out
    service.kappa = nan
    assert run(["review", "agreement", "--corpus", "wiki"]) == DONE
    assert "not defined" in capsys.readouterr().out
    assert run(["review", "agreement", "--json"]) == DONE
    report = json.loads(capsys.readouterr().out)
    assert (report["kappa"], report["weighted_kappa"], report["raters"]) == (None, 0.4, 2)
