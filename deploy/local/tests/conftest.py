"""Small programs in place of services, and a supervisor of them in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SERVICE = """
import http.server, os, signal, subprocess, sys, time
port, behaviour = int(sys.argv[1]), sys.argv[2]
if behaviour == "wrong settings":
    print("ANABRANCH_X: there is no such setting", flush=True)
    sys.exit(2)
if behaviour == "dies":
    print("cannot go on", flush=True)
    sys.exit(1)
if behaviour == "has a child":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if behaviour == "is deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), os._exit(0)))

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if behaviour == "is never ready" else 200)
        self.end_headers()
    def log_message(self, *_): pass

print("hello", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
"""

SUPERVISOR = """
import asyncio, json, sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from anabranch_local.parts import Program
from anabranch_local.process import StartError, free_port
from anabranch_local.supervisor import AlreadyRunningError, Stage, Supervisor, RUN_VARIABLE

data, service, behaviours = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

def compose(state, progress):
    def part(name, behaviour):
        port = free_port()
        return Program(
            name=name, command=[sys.executable, service, str(port), behaviour],
            environment={RUN_VARIABLE: state.run}, probe=f"http://127.0.0.1:{port}/", log=data / f"{name}.log",
        )
    stages = [
        Stage(phrase=f"stage {number}", grace=timedelta(seconds=1), parts=[part(n, b) for n, b in stage.items()])
        for number, stage in enumerate(behaviours)
    ]
    return stages, replace(state, grpc="127.0.0.1:1")

try:
    asyncio.run(Supervisor(data_dir=data, compose=compose, progress=print, ready=lambda _: print("ready")).run())
except (StartError, AlreadyRunningError) as error:
    print(error)
    sys.exit(1)
"""

Command = Callable[..., list[str]]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of `service.py` and `supervisor.py`."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "service.py").write_text(SERVICE)
    (folder / "supervisor.py").write_text(SUPERVISOR)
    return folder


@pytest.fixture
def supervise(programs: Path) -> Command:
    """The command of a supervisor: `supervise(data_dir, [{"name": "behaviour"}, ...])`, a mapping for each stage."""

    def command(data: Path, stages: list[dict[str, str]]) -> list[str]:
        return [
            sys.executable,
            str(programs / "supervisor.py"),
            str(data),
            str(programs / "service.py"),
            json.dumps(stages),
        ]

    return command
