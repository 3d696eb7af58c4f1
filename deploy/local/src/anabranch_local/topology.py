"""What a platform on one machine consists of, and how its parts find each other."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from anabranch_artifacts import make_keys
from anabranch_local.cache import bytecode_environment
from anabranch_local.jars import kafka_classpath
from anabranch_local.kafka import KafkaServer
from anabranch_local.parts import Program
from anabranch_local.process import free_port
from anabranch_local.state import State
from anabranch_local.supervisor import RUN_VARIABLE, Stage
from anabranch_local.weaviate import WeaviateServer, weaviate_program

Index = Literal["embedded", "weaviate"]
SCALABLE = ("ingestion", "embedding", "retrieval", "generation", "guardrails")
"""Services that may run as several processes. The gateway holds the public ports, the registry one small table."""
_BACK = (
    "registry",
    "embedding",
    "ingestion",
    "retrieval",
    "generation",
    "guardrails",
    "feedback",
    "evaluation",
    "training",
)
_CALLS: Mapping[str, tuple[str, ...]] = {
    "retrieval": ("embedding",),
    "ingestion": ("guardrails",),
    "gateway": ("ingestion", "retrieval", "generation", "feedback", "guardrails"),
    "evaluation": ("retrieval", "generation", "registry", "embedding"),
    "training": ("feedback", "retrieval", "registry"),
}
"""Service -> the services it calls over gRPC, each told as ANABRANCH_<SERVICE>_<CALLED>."""
_OPTIONAL = frozenset({"guardrails"})
_SMALL_MACHINE = {
    # Threads of numeric libraries: the parts that use several say so in their own settings.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # glibc keeps an arena of freed memory for each of many threads; two are enough for processes that wait.
    "MALLOC_ARENA_MAX": "2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `anabranch up` was asked for."""

    data_dir: Path
    index: Index = "embedded"
    scale: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be. Raises ValueError with a sentence."""
        for service, count in self.scale.items():
            if service not in SCALABLE:
                raise ValueError(f"{service!r} cannot be scaled; these can: {', '.join(SCALABLE)}")
            if not 1 <= count <= 16:  # noqa: PLR2004 - one machine
                raise ValueError(f"{service} cannot run {count} times; 1 to 16 processes fit one machine")

    def to_json(self) -> str:
        """For the command line of a supervisor of its own."""
        return json.dumps({"data_dir": str(self.data_dir), "index": self.index, "scale": dict(self.scale)})

    @classmethod
    def from_json(cls, text: str) -> Options:
        """The other way round."""
        raw = json.loads(text)
        return cls(data_dir=Path(raw["data_dir"]), index=raw["index"], scale=raw["scale"])


def compose(options: Options, state: State, progress: Callable[[str], None]) -> tuple[Sequence[Stage], State]:
    """The stages of a platform, and its state with every endpoint named. Fetches and builds what is missing."""
    data, logs = options.data_dir, options.data_dir / "logs"
    logs.mkdir(exist_ok=True)
    kafka_classpath(progress=progress)
    ports = _ports(data)
    kafka = KafkaServer(data / "kafka", port=ports["kafka"], logs=logs, progress=progress)
    stores: list[KafkaServer | WeaviateServer] = [kafka]
    index: dict[str, str] = {}
    if options.index == "weaviate":
        weaviate_program(progress=progress)
        weaviate = WeaviateServer(
            data / "weaviate",
            http_port=ports["weaviate_http"],
            grpc_port=ports["weaviate_grpc"],
            api_key=_secret(data / "weaviate.key"),
            log=logs / "weaviate.log",
        )
        stores.append(weaviate)
        index = {
            "INDEX": "weaviate",
            "WEAVIATE_HTTP": weaviate.http,
            "WEAVIATE_GRPC": weaviate.grpc,
            "WEAVIATE_API_KEY": _secret(data / "weaviate.key"),
        }
    else:
        index = {"INDEX": "lancedb"}
    sockets = Path(tempfile.mkdtemp(prefix="anabranch-"))  # 0700, and short: a socket's path has 107 characters at most
    grpc, key_file = f"127.0.0.1:{ports['grpc']}", data / "api.key"
    targets = {
        service: ",".join(f"unix:{sockets / name}.sock" for name in _names(service, options)) for service in _BACK
    } | {"gateway": grpc}
    state = replace(
        state,
        tenant=os.environ.get("ANABRANCH_GATEWAY_TENANT", state.tenant),
        grpc=grpc,
        http=f"http://127.0.0.1:{ports['http']}",
        kafka=kafka.bootstrap,
        key_file=str(key_file),
        index=options.index,
        sockets=str(sockets),
        targets=targets,
    )
    artifacts, keys = data / "artifacts", (data / "signing.key", data / "signing.pub")
    if not keys[0].exists():
        make_keys(*keys)
    special = {
        # Who else may put documents in is for the owner to say; without a list, a typing error would found a tenant.
        "ingestion": {"TENANTS": os.environ.get("ANABRANCH_INGESTION_TENANTS", state.tenant)},
        "retrieval": index | {"ARTIFACTS": str(artifacts), "PUBLIC_KEY": str(keys[1])},
        "training": {"ARTIFACTS": str(artifacts), "SIGNING_KEY": str(keys[0])},
        # Which of the store's models they load, if any, is for their own settings to say.
        "generation": {"ARTIFACTS": str(artifacts), "PUBLIC_KEY": str(keys[1])},
        "evaluation": {"ARTIFACTS": str(artifacts), "PUBLIC_KEY": str(keys[1])},
        "feedback": {"TENANTS": os.environ.get("ANABRANCH_INGESTION_TENANTS", state.tenant)},
        "gateway": {"HTTP_LISTEN": f"127.0.0.1:{ports['http']}", "KEY_FILE": str(key_file)},
    }

    def programs(service: str) -> list[Program]:
        return [
            _program(service, name, target, state, options, special.get(service, {}))
            for name, target in zip(_names(service, options), targets[service].split(","), strict=True)
        ]

    return (
        Stage(
            phrase="starting Kafka" + (" and Weaviate" if options.index == "weaviate" else ""),
            parts=stores,
            grace=timedelta(seconds=5),
            then=lambda: asyncio.run(_provision(kafka.bootstrap, progress)),
        ),
        Stage(
            phrase="starting the services",
            parts=[program for service in _BACK for program in programs(service)],
            grace=timedelta(seconds=18),
            wait=False,
        ),
        Stage(phrase="waiting for the services", parts=programs("gateway"), grace=timedelta(seconds=7)),
    ), state


def _names(service: str, options: Options) -> list[str]:
    """Of its processes: the service's name, then with a number."""
    count = options.scale.get(service, 1)
    return [service, *(f"{service}-{number}" for number in range(2, count + 1))]


def _program(  # noqa: PLR0917 - each is one thing the environment is made of
    service: str, name: str, target: str, state: State, options: Options, special: Mapping[str, str]
) -> Program:
    data = options.data_dir / service
    data.mkdir(exist_ok=True)
    ops = f"127.0.0.1:{free_port()}"
    settings = {
        "KAFKA": state.kafka,
        "LISTEN": target,
        "OPS_LISTEN": ops,
        "DATA": str(data),
        "LOG_FORMAT": "json",
        **{called.upper(): _target(service, called, state) for called in _CALLS.get(service, ())},
        **special,
    }
    return Program(
        name=name,
        command=[sys.executable, "-m", f"anabranch_{service}"],
        environment={
            **_SMALL_MACHINE,
            **os.environ,  # so that settings of a service can be changed from outside
            **bytecode_environment(),
            "PYTHONUNBUFFERED": "1",
            RUN_VARIABLE: state.run,
            **{f"ANABRANCH_{service.upper()}_{key}": value for key, value in settings.items()},
        },
        probe=f"http://{ops}/readyz",
        log=options.data_dir / "logs" / f"{name}.log",
        cwd=options.data_dir,
    )


def _target(service: str, called: str, state: State) -> str:
    """Where a neighbour is; one that a service can do without is taken from it by an empty setting from outside."""
    given = os.environ.get(f"ANABRANCH_{service.upper()}_{called.upper()}")
    return "" if called in _OPTIONAL and given == "" else state.targets[called]


async def _provision(bootstrap: str, progress: Callable[[str], None]) -> None:
    from anabranch_local.provisioning import provision  # noqa: PLC0415 - half a second of import, while Kafka starts

    for difference in (await provision(bootstrap)).differing:
        progress(f"note: {difference}")


def _ports(data: Path) -> dict[str, int]:
    """Ports by purpose: those of the last start in this folder where they are free."""
    file = data / "ports.json"
    try:
        last: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = {}
    ports: dict[str, int] = {}
    for purpose in ("kafka", "grpc", "http", "weaviate_http", "weaviate_grpc"):
        port = free_port(last.get(purpose, 0))
        while port in ports.values():
            port = free_port()
        ports[purpose] = port
    file.write_text(json.dumps(ports), encoding="utf-8")
    return ports


def _secret(file: Path) -> str:
    """What the file holds; random, and only for its owner to read, when it is new."""
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(secrets.token_urlsafe(24))
    return file.read_text().strip()
