"""`anabranch eval gate`, for use in CI: what it asks for, and what its exit code says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import events_pb2 as events
from anabranch.registry.v1 import loop_pb2 as loop
from anabranch_cli import golden
from anabranch_cli.__main__ import run
from anabranch_cli.output import DONE, FAILED, NOT_RUNNING, USAGE
from anabranch_faults import Fault, NotFound, Unreachable

GATE = ["eval", "gate", "--baseline", "v-1", "--candidate", "v-2"]
Decide = Callable[[pb.DecideGateRequest], pb.DecideGateResponse]
Asked = tuple[list[pb.DecideGateRequest], Callable[[Decide], None]]


def passed(request: pb.DecideGateRequest) -> pb.DecideGateResponse:
    return pb.DecideGateResponse(gate=events.GateDecided(passed=True, reason=request.gate.metric))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The requests that were made, and a way to answer them otherwise than by a pass."""
    seen: list[pb.DecideGateRequest] = []
    answer: list[Decide] = [passed]

    def decide(request: pb.DecideGateRequest, *, timeout: float) -> pb.DecideGateResponse:
        assert timeout > 60
        seen.append(request)
        return answer[0](request)

    @contextmanager
    def calls(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(DecideGate=decide)

    monkeypatch.setattr(golden, "calls", calls)
    monkeypatch.setattr(golden, "platform", lambda _: SimpleNamespace(tenant="t"))
    return seen, lambda other: answer.__setitem__(0, other)


def test_a_gate_that_passes_ends_with_0_and_one_that_fails_with_1(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    _, answer = asked
    assert run([*GATE, "--dataset", "g"]) == DONE
    answer(lambda _: pb.DecideGateResponse(gate=events.GateDecided(reason="worse")))
    assert run([*GATE, "--dataset", "g"]) == FAILED
    assert "worse" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "code"), [(NotFound("no golden set g"), USAGE), (Unreachable("evaluation is away"), NOT_RUNNING)]
)
def test_a_gate_that_could_not_be_decided_looks_like_no_verdict(asked: Asked, fault: Fault, code: int) -> None:
    def failing(_: pb.DecideGateRequest) -> pb.DecideGateResponse:
        raise fault

    asked[1](failing)
    assert run([*GATE, "--dataset", "g"]) == code


def test_options_say_what_a_file_says_and_go_before_it(asked: Asked, tmp_path: Path) -> None:
    seen, _ = asked
    spec = tmp_path / "gate.yaml"
    spec.write_text("datasets: [a]\nmargin: 0.05\nalpha: 0.1\n", encoding="utf-8")
    options = ["--no-regression", "--margin", "0.01", "--detectable", "0.03", "--cost-ratio", "1.2", "--metric", "f1"]
    assert run([*GATE, "--spec", str(spec), "--dataset", "b", *options, "--corpus", "c"]) == DONE
    (request,) = seen
    assert (request.tenant, request.corpus) == ("t", "c")
    assert request.gate == loop.GateSpec(
        datasets=["a", "b"],
        metric="f1",
        mode=loop.GATE_MODE_NO_REGRESSION,
        margin=0.01,
        alpha=0.1,
        detectable=0.03,
        cost_ratio=1.2,
    )


@pytest.mark.parametrize("wrong", [[], ["--dataset", "g", "--margin", "-1"], ["--spec", "missing.yaml"]])
def test_a_gate_that_is_asked_for_wrongly_is_no_verdict(asked: Asked, wrong: list[str]) -> None:
    assert run([*GATE, *wrong]) == USAGE
    assert asked[0] == []


def test_a_file_that_is_no_gate_is_no_verdict(asked: Asked, tmp_path: Path) -> None:
    spec = tmp_path / "gate.yaml"
    spec.write_text("datsets: [a]\n", encoding="utf-8")
    assert run([*GATE, "--spec", str(spec)]) == USAGE
    assert asked[0] == []
