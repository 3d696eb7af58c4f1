"""Asking a part whether it is ready, by its probe: `kafka://host:port`, `redis://host:port`, or the url of a page."""

from __future__ import annotations

import json
import socket
import struct
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import timedelta

_API_VERSIONS = struct.pack(">hhih", 18, 0, 1, -1)


def reason_unready(probe: str, *, patience: timedelta = timedelta(seconds=1)) -> str | None:
    """None when the part is ready, otherwise why not. Blocks, for about `patience` at most."""
    if probe.startswith("kafka://"):
        host, _, port = probe.removeprefix("kafka://").rpartition(":")
        return _kafka(host, int(port), patience.total_seconds())
    if probe.startswith("redis"):
        return _redis(probe, patience.total_seconds())
    return _http(probe, patience.total_seconds())


def _kafka(host: str, port: int, seconds: float) -> str | None:
    # A broker opens its listener before it serves; it answers ApiVersions only once it does.
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            connection.sendall(struct.pack(">i", len(_API_VERSIONS)) + _API_VERSIONS)
            answer = connection.recv(4)
    except OSError as error:
        return str(error)
    # An answer begins with its length, which is small; another program on the port would say something else.
    return None if answer[:1] == b"\0" else "something other than Kafka answers"


def _redis(probe: str, seconds: float) -> str | None:
    kind, _, place = probe.partition("://")
    try:
        with socket.socket(socket.AF_UNIX if kind == "redis+unix" else socket.AF_INET) as connection:
            connection.settimeout(seconds)
            host, _, port = place.rpartition(":")
            connection.connect(place if kind == "redis+unix" else (host, int(port)))
            connection.sendall(b"PING\r\n")
            answer = connection.recv(64)
    except OSError as error:
        return str(error)
    # Without the password it refuses, which is an answer; while it loads its data it says so.
    return None if answer.startswith((b"+PONG", b"-NOAUTH")) else answer.decode(errors="replace").strip() or "no answer"


def _http(url: str, seconds: float) -> str | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    try:
        with opener.open(url, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:
        with suppress(ValueError, AttributeError, OSError):
            reasons = json.loads(error.read()).get("reasons")
            if reasons:
                return "; ".join(map(str, reasons))
        return f"{url} answers {error.code}"
    except OSError as error:
        return str(getattr(error, "reason", error))
