from __future__ import annotations

from typing import Any

import pytest

from anabranch.training.v1 import training_service_pb2 as pb
from anabranch_cli.steering import Steering
from anabranch_faults import Invalid


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[pb.Training]:
    """What training lists, newest last."""
    found: list[pb.Training] = []
    monkeypatch.setattr(Steering, "last_run", lambda _: found[-1] if found else pb.Training())
    return found


def steering() -> Steering:
    nothing: Any = None
    return Steering(nothing, nothing, [])


def test_a_run_that_found_nothing_to_gain_ends_the_wait_for_a_candidate(runs: list[pb.Training]) -> None:
    before = steering().last_run()
    assert steering().declined(before) == ""
    for state in (pb.TRAINING_STATE_QUEUED, pb.TRAINING_STATE_TRAINING):
        runs.append(pb.Training(run_id="tr-1", state=state))
        assert steering().declined(before) == ""
    runs.append(pb.Training(run_id="tr-1", state=pb.TRAINING_STATE_DONE, problem="nothing to gain: ..."))
    assert steering().declined(before) == "nothing to gain: ..."
    assert steering().declined(runs[-1]) == "", "that was an earlier simulation's"
    runs.append(pb.Training(run_id="tr-2", state=pb.TRAINING_STATE_DONE, model_version="rr-1"))
    assert steering().declined(before) == ""


def test_a_run_that_failed_ends_it_with_its_problem(runs: list[pb.Training]) -> None:
    runs.append(pb.Training(run_id="tr-1", state=pb.TRAINING_STATE_FAILED, problem="no memory"))
    with pytest.raises(Invalid, match="no memory"):
        steering().declined(pb.Training())
