"""`anabranch eval cascade` against an evaluation service that has explored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import evaluation_service_pb2_grpc as stubs
from anabranch_cli import cascades
from anabranch_cli.__main__ import run
from anabranch_cli.connection import Platform
from anabranch_cli.output import DONE, USAGE


class Explored(stubs.EvaluationServiceServicer):
    """Knows of one pair of thresholds."""

    def __init__(self) -> None:
        self.asked: list[pb.EstimateCascadeRequest] = []
        self.found = True

    def EstimateCascade(  # noqa: N802  the contract's signature
        self,
        request: pb.EstimateCascadeRequest,
        context: grpc.ServicerContext,
    ) -> pb.EstimateCascadeResponse:
        self.asked.append(request)
        pair = pb.CascadeEstimate(skip_above=0.8, escalate_below=0.4, value=0.861, low=0.84, high=0.882, cost=112.5)
        return pb.EstimateCascadeResponse(
            strong=pb.CascadeEstimate(value=0.9, cost=400, strong_share=1),
            cheap=pb.CascadeEstimate(skip_above=1, value=0.6, cost=20),
            best=pair if self.found else None,
            estimates=[pair],
            answers=640,
            cost_unit="microdollars",
        )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Explored]:
    found = Explored()  # type: ignore[abstract]  # the other methods are not called
    server = grpc.server(ThreadPoolExecutor(1))
    stubs.add_EvaluationServiceServicer_to_server(found, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    state: Any = SimpleNamespace(targets={"evaluation": f"127.0.0.1:{port}"})
    where = Platform(endpoint="", key="", kafka="", tenant="acme", state=state)
    monkeypatch.setattr(cascades, "platform", lambda _data: where)
    yield found
    server.stop(None)


def test_the_best_thresholds_are_shown_beside_what_they_are_held_against(
    service: Explored, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "cascade", "--corpus", "wiki", "--keep", "0.9"]) == DONE
    shown = capsys.readouterr().out
    for part in ("strong", "cheap", "best", "0.861", "112.5", "640 answers"):
        assert part in shown
    (asked,) = service.asked
    assert (asked.tenant, asked.corpus, asked.keep) == ("acme", "wiki", 0.9)
    assert asked.since.seconds > 0


def test_where_nothing_is_sure_to_keep_enough_there_is_no_best(
    service: Explored, capsys: pytest.CaptureFixture[str]
) -> None:
    service.found = False
    assert run(["eval", "cascade", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["best"] is None
    assert run(["eval", "cascade"]) == DONE
    assert "no thresholds are sure" in capsys.readouterr().out


def test_a_share_of_nothing_cannot_be_kept(service: Explored) -> None:
    assert run(["eval", "cascade", "--keep", "0"]) == USAGE
    assert service.asked == []
