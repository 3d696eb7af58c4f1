"""grpc.aio servers and channels with deadlines, health, reflection and typed errors. See README.md."""

from __future__ import annotations

from anabranch_rpc.calls import Authenticate
from anabranch_rpc.channel import connect
from anabranch_rpc.errors import CODES, Errors, Status, fault_from, status_of
from anabranch_rpc.scope import deadline, detached, principal
from anabranch_rpc.server import MAX_MESSAGE_BYTES, Server, Servicer

__all__ = [
    "CODES",
    "MAX_MESSAGE_BYTES",
    "Authenticate",
    "Errors",
    "Server",
    "Servicer",
    "Status",
    "connect",
    "deadline",
    "detached",
    "fault_from",
    "principal",
    "status_of",
]
