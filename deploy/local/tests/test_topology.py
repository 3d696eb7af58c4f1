"""What is read, written and refused before anything starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from anabranch_local import topology
from anabranch_local.cache import bytecode_environment
from anabranch_local.parts import Program
from anabranch_local.state import ProcessId, ServiceState, State, find_data_dir, last_state, load_state, save_state
from anabranch_local.topology import Options

ROOT = Path(__file__).resolve().parents[3]


def a_state(data: Path, **more: object) -> State:
    fields = {"data_dir": str(data), "run": "r", "supervisor": ProcessId.of(os.getpid()), **more}
    return State(**fields)  # type: ignore[arg-type]  # given by name


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = a_state(
        tmp_path, targets={"retrieval": "unix:/x"}, services=(ServiceState(name="kafka", state="ready", pid=1),)
    )
    save_state(state)
    assert load_state(tmp_path) == state


def test_a_state_whose_process_id_was_given_to_another_process_is_stale(tmp_path: Path) -> None:
    mine = ProcessId.of(os.getpid())
    save_state(a_state(tmp_path, supervisor=ProcessId(pid=mine.pid, created=mine.created - 60)))
    assert load_state(tmp_path) is None
    assert last_state(tmp_path) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"services": 1}'])
def test_a_state_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert last_state(tmp_path) is None


def test_the_data_folder_is_the_option_then_the_environment_then_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANABRANCH_DATA_DIR", raising=False)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert find_data_dir() == deep / ".anabranch"
    (tmp_path / ".anabranch").mkdir()
    save_state(a_state(tmp_path / ".anabranch"))
    assert find_data_dir() == tmp_path / ".anabranch"
    monkeypatch.setenv("ANABRANCH_DATA_DIR", str(tmp_path / "named"))
    assert find_data_dir() == tmp_path / "named"
    assert find_data_dir(Path("given")) == deep / "given"


@pytest.mark.parametrize(
    ("scale", "problem"),
    [({"gateway": 2}, "cannot be scaled"), ({"none": 1}, "cannot be scaled"), ({"embedding": 0}, "1 to 16")],
)
def test_what_cannot_be_scaled_is_refused(tmp_path: Path, scale: dict[str, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Options(data_dir=tmp_path, scale=scale)


def test_options_travel_as_json(tmp_path: Path) -> None:
    options = Options(data_dir=tmp_path, index="weaviate", scale={"embedding": 2})
    assert Options.from_json(options.to_json()) == options


def test_ports_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    first = topology._ports(tmp_path)
    assert len(set(first.values())) == len(first)
    assert topology._ports(tmp_path) == first


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret = topology._secret(file)
    assert len(secret) > 20
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert topology._secret(file) == secret


def test_services_are_told_where_their_neighbours_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "kafka_classpath", lambda **_: [])
    options = Options(data_dir=tmp_path, scale={"retrieval": 2})
    stages, state = topology.compose(options, a_state(tmp_path), lambda _: None)
    environments = {
        part.name: part.environment for stage in stages for part in stage.parts if isinstance(part, Program)
    }
    services = {path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml")}
    assert services | {"retrieval-2"} == set(environments)
    targets = environments["gateway"]["ANABRANCH_GATEWAY_RETRIEVAL"].split(",")
    listening = [environments[name]["ANABRANCH_RETRIEVAL_LISTEN"] for name in ("retrieval", "retrieval-2")]
    assert targets == listening
    assert all(target.startswith("unix:") and len(target) < 100 for target in targets)
    assert environments["gateway"]["ANABRANCH_GATEWAY_LISTEN"] == state.grpc
    assert {environment["ANABRANCH_RUN"] for environment in environments.values()} == {"r"}
    sockets = Path(state.sockets)
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    sockets.rmdir()


def test_guardrails_are_wired_unless_they_are_taken_out_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "kafka_classpath", lambda **_: [])
    monkeypatch.setenv("ANABRANCH_INGESTION_GUARDRAILS", "")
    stages, state = topology.compose(Options(data_dir=tmp_path), a_state(tmp_path), lambda _: None)
    environments = {
        part.name: part.environment for stage in stages for part in stage.parts if isinstance(part, Program)
    }
    assert environments["gateway"]["ANABRANCH_GATEWAY_GUARDRAILS"] == state.targets["guardrails"]
    assert environments["ingestion"]["ANABRANCH_INGESTION_GUARDRAILS"] == ""
    Path(state.sockets).rmdir()


@pytest.mark.parametrize(
    ("unwritten", "prefix", "kept"), [("1", "", True), ("", "", False), ("1", "/elsewhere", False)]
)
def test_bytecode_is_kept_in_the_cache_only_where_none_may_lie_beside_the_sources(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unwritten: str,
    prefix: str,
    kept: bool,  # noqa: FBT001  a case's outcome
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", unwritten)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", prefix)
    found = bytecode_environment()
    assert bool(found) is kept
    assert not kept or found["PYTHONPYCACHEPREFIX"].startswith(str(tmp_path))
