"""The jars of the local Kafka: pinned by coordinate and SHA-256 in `kafka.lock`, fetched by `jgo`."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

from jgo.maven import MavenContext

from anabranch_local.cache import cache_dir, locked

KAFKA_VERSION = "4.3.1"
# `!` keeps jgo from letting one artifact's parent decide the versions of the others:
# log4j's would bring kafka-clients 3.8.
_ROOTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}!",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}!",
    # Without a binding the broker logs nothing, not even its death.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.2!",
)
# What only Kafka Connect needs: kafka-tools asks for it, neither broker nor admin commands load it.
_CONNECT = re.compile(
    r"jersey|jetty|hk2|jakarta|javax|swagger|connect-|classgraph|maven-artifact|plexus|javassist|blackbird|aopalliance"
)
_HEADER = "# Jars of the local Kafka: coordinates and SHA-256. Written by `python -m anabranch_local.jars`.\n"


class CorruptJarError(RuntimeError):
    """A downloaded jar is not the pinned one, twice in a row."""


def kafka_classpath(*, progress: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Paths of all jars; downloads (about 45 MB, some ten seconds) on the first call on a machine.

    Raises:
        CorruptJarError: what the repository serves is not what `kafka.lock` pins.
    """
    text = resources.files("anabranch_local").joinpath("kafka.lock").read_text(encoding="utf-8")
    pins = [line.split() for line in text.splitlines() if not line.startswith("#")]
    verified = cache_dir() / f"kafka-{hashlib.sha256(text.encode()).hexdigest()[:16]}.verified"
    paths = [_path(coordinate) for coordinate, _ in pins]
    if verified.exists() and all(path.exists() for path in paths):
        return paths
    with locked("kafka"):
        progress(f"fetching Kafka {KAFKA_VERSION} ({len(pins)} jars)")
        context = MavenContext(repo_cache=_repository(), timeout=60)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pin: _fetch(context, *pin), pins))
        verified.touch()
    return paths


def _repository() -> Path:
    return cache_dir() / "maven"


def _path(coordinate: str) -> Path:
    group, artifact, version = coordinate.split(":")
    return _repository().joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def _fetch(context: MavenContext, coordinate: str, sha256: str) -> None:
    group, artifact, version = coordinate.split(":")
    path = _path(coordinate)
    for _ in range(2):  # a file cut short by an interrupted run is fetched again
        context.project(group, artifact).at_version(version).artifact().resolve()
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return
        path.unlink()
    raise CorruptJarError(f"{coordinate}: the jar served is not the one pinned in kafka.lock")


def lock() -> str:
    """Resolve the roots anew and return the text of `kafka.lock`."""
    context = MavenContext(repo_cache=_repository(), timeout=60)
    roots, others = context.resolver.resolve([context.create_dependency(root) for root in _ROOTS])
    lines = []
    for dependency in [*roots, *(d for d in others if d.scope in {"compile", "runtime"})]:
        artifact = dependency.artifact
        coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        if _CONNECT.search(coordinate):
            continue
        artifact.resolve()
        lines.append(f"{coordinate} {hashlib.sha256(_path(coordinate).read_bytes()).hexdigest()}\n")
    return _HEADER + "".join(sorted(lines))


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("kafka.lock")).write_text(lock(), "utf-8")
