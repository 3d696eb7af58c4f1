"""Limits on ZIP containers, checked in the directory before anything is unpacked."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from anabranch_ingestion.adapters.parsing.sniffing import encrypted
from anabranch_ingestion.domain.refusals import Reason, Refused

_ENCRYPTED_FLAG = 0x1
_SMALL = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """Caps on what a container may claim to hold. The claims may lie: the worker's memory limit is behind them."""

    members: int = 10_000
    total: int = 256 << 20
    # Of a member that unpacks to more than 8 MiB; XML of spreadsheets reaches 100.
    ratio: int = 200


def check(data: bytes, limits: ArchiveLimits) -> None:
    """Raises Refused: TOO_LARGE over a limit, ENCRYPTED, UNPARSEABLE when the directory cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError, OverflowError) as e:
        raise Refused(Reason.UNPARSEABLE, "the file is cut off or damaged; send it again") from e
    if len(members) > limits.members:
        raise Refused(Reason.TOO_LARGE, f"the container holds {len(members)} members, over the limit {limits.members}")
    total = 0
    for member in members:
        if member.flag_bits & _ENCRYPTED_FLAG:
            raise encrypted()
        total += member.file_size
        if member.file_size > _SMALL and member.file_size > limits.ratio * max(1, member.compress_size):
            raise Refused(
                Reason.TOO_LARGE,
                f"a member unpacks to more than {limits.ratio} times its size, as decompression bombs do",
            )
    if total > limits.total:
        raise Refused(Reason.TOO_LARGE, f"the container unpacks to {total} bytes, over the limit {limits.total}")
