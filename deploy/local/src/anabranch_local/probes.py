"""Asking a part whether it is ready, by its probe: `kafka://host:port` or the `http://` url of a readiness page."""

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
