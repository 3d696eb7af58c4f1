"""What runs in a data folder: written by the supervisor, read by every command. Light to import."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

DEFAULT_FOLDER = ".anabranch"
_FILE = "state.json"
_MIB = 1024 * 1024
_CLOCK_STEP = 2.0  # seconds by which setting the clock may move what the kernel calls a start time


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process beyond doubt: ids are given anew, a start time is not."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Of a running process. Raises psutil.NoSuchProcess."""
        return cls(pid=pid, created=psutil.Process(pid).create_time())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _CLOCK_STEP
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """One process of the platform, as the supervisor last saw it.

    `state` is starting, ready (it was, since its last start), restarting or stopped. `probe` says how to ask it now.
    """

    name: str
    state: str
    pid: int = 0
    created: float = 0.0
    restarts: int = 0
    probe: str = ""
    log: str = ""

    @property
    def rss_mb(self) -> float:
        """Resident memory of the process and its children now, in MiB; 0 when it does not run."""
        if not self.pid or not ProcessId(pid=self.pid, created=self.created).alive:
            return 0.0
        total = 0
        try:
            root = psutil.Process(self.pid)
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0.0
        for process in family:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return round(total / _MIB, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A platform in a data folder."""

    data_dir: str
    run: str
    """Random id of this start; all its processes carry it in their environment as ANABRANCH_RUN."""
    supervisor: ProcessId
    phase: str = ""
    """What is being done, for people; empty once everything is ready."""
    failure: str = ""
    """Why the start failed; empty while it did not."""
    ready: bool = False
    tenant: str = "default"
    grpc: str = ""
    """host:port"""
    http: str = ""
    """Url."""
    kafka: str = ""
    """host:port"""
    key_file: str = ""
    index: str = "embedded"
    sockets: str = ""
    """Private folder of the unix sockets between services."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """gRPC targets by service, several with commas."""
    services: tuple[ServiceState, ...] = ()

    @property
    def running(self) -> bool:
        """Whether its supervisor still runs."""
        return self.supervisor.alive


def find_data_dir(data: Path | None = None) -> Path:
    """The data folder a command means: `data`, else $ANABRANCH_DATA_DIR, else the nearest `.anabranch` from here up.

    When there is none, the one `anabranch up` would create here.
    """
    if data is not None:
        return data.absolute()
    if named := os.environ.get("ANABRANCH_DATA_DIR"):
        return Path(named).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / DEFAULT_FOLDER / _FILE).exists():
            return folder / DEFAULT_FOLDER
    return here / DEFAULT_FOLDER


def load_state(data_dir: Path) -> State | None:
    """What runs in a data folder; None when nothing does, whatever an earlier run left behind."""
    state = last_state(data_dir)
    return state if state is not None and state.running else None


def last_state(data_dir: Path) -> State | None:
    """The last state written in a data folder, running or not; None when there is none or it cannot be read."""
    try:
        raw: dict[str, Any] = json.loads((data_dir / _FILE).read_text(encoding="utf-8"))
        raw["supervisor"] = ProcessId(**raw["supervisor"])
        raw["services"] = tuple(ServiceState(**service) for service in raw["services"])
        return State(**raw)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save_state(state: State) -> None:
    """Write it, so that a reader sees the old or the new state, never half of one."""
    file = Path(state.data_dir) / _FILE
    scratch = file.with_name(f".{_FILE}.{os.getpid()}")
    scratch.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    scratch.replace(file)
