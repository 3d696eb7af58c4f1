"""What a bus on Kafka can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from anabranch_bus.policy import Policy

__all__ = ["BusSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusSettings:
    """All of it has defaults but the broker.

    bootstrap: `host:port`, several separated by commas.
    state: folder for the marks of what is being handled, by which a record that ends the process is found out. It must
        outlive the process; None does without. Replicas that share it share what they know.
    code_version: goes into dead letters.
    session_timeout: how soon a replica that vanished is replaced.
    stalled_after: how long records may wait on the broker while the consumer that should read them is idle, before
        its client is built anew.
    drain: how long `stop` lets handlers finish; revoke_grace: the same when partitions move to another replica.
    """

    bootstrap: str
    client_id: str = "anabranch"
    state: Path | None = None
    code_version: str = ""
    policy: Policy = field(default_factory=Policy)
    session_timeout: timedelta = timedelta(seconds=6)
    request_timeout: timedelta = timedelta(seconds=10)
    publish_timeout: timedelta = timedelta(seconds=10)
    start_timeout: timedelta = timedelta(seconds=60)
    drain: timedelta = timedelta(seconds=12)
    revoke_grace: timedelta = timedelta(seconds=5)
    watch_every: timedelta = timedelta(seconds=1)
    stalled_after: timedelta = timedelta(seconds=5)
    ends_before_dead: int = 3
    max_batch_bytes: int = 8 * 1024 * 1024
    max_buffer_bytes: int = 4 * 1024 * 1024
    max_buffer_records: int = 8_192
