"""JSON objects in protobuf's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from google.protobuf.struct_pb2 import Struct


def struct_of(values: Mapping[str, object]) -> Struct:
    """The same, as a message; what JSON cannot hold was refused long before."""
    struct = Struct()
    struct.update(cast("dict[str, Any]", dict(values)))
    return struct
