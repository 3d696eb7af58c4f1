"""The services behind the gateway, for those who run them: one blocking call at a time."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from anabranch_cli.connection import Platform
from anabranch_client.errors import fault_from

__all__ = ["DEADLINE", "author", "calls", "document", "moment", "scope_of"]

DEADLINE: Final = 30.0
"""Seconds for one call, unless said otherwise."""
LARGE: Final = (("grpc.max_send_message_length", 24 << 20), ("grpc.max_receive_message_length", 24 << 20))

S = TypeVar("S")


class _Calls:
    """A stub whose methods take a request and an optional `timeout`, and raise Faults."""

    def __init__(self, stub: object) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._stub, name)

        def call(request: Message, *, timeout: float = DEADLINE) -> Any:
            try:
                return method(request, timeout=timeout)
            except grpc.RpcError as error:
                raise fault_from(error) from error

        return call


@contextmanager
def calls(where: Platform, service: str, stub: Callable[[grpc.Channel], object]) -> Iterator[Any]:
    """Yields the service's methods while the block runs. Raises NotRunning away from the machine it runs on."""
    target = where.local_state().targets[service].split(",")[0]
    with grpc.insecure_channel(target, options=list(LARGE)) as channel:
        yield _Calls(stub(channel))


def author() -> str:
    """Who is at the terminal, for the audit."""
    return getpass.getuser()


def scope_of(where: Platform, corpus: str | None) -> str:
    """The scope of a corpus of the tenant; without a corpus, the tenant."""
    return f"{where.tenant}/{corpus}" if corpus else where.tenant


def document(message: Message) -> dict[str, Any]:
    """As JSON values, names as in the contract, numbers as numbers."""
    shown: dict[str, Any] = json.loads(
        json.dumps(MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
    )
    return shown


def moment(stamp: Timestamp) -> str:
    """`2026-11-21 14:05:09`, in local time; `-` when unset."""
    return stamp.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if stamp.seconds else "-"
