"""The tables as queries see them; migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, text

from anabranch_store import UtcDateTime

__all__ = ["DATASETS", "FEEDBACK", "METADATA", "READINGS", "RUNS", "UNENDED", "USES"]

METADATA: Final = MetaData()
UNENDED: Final = ("queued", "building_dataset", "training")

FEEDBACK: Final = Table(
    "feedback",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("feedback_id", String(64), primary_key=True),
    Column("revision", BigInteger(), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("answer_id", String(128), nullable=False),
    Column("usable", Boolean(), nullable=False),
    Column("counted", Boolean(), nullable=False),
    Column("withdrawn", Boolean(), nullable=False),
    Column("denied", Boolean(), nullable=False),
    Column("positive", Integer(), nullable=False),
    Column("negative", Integer(), nullable=False),
    Column("given_at", UtcDateTime(), nullable=False),
    Column("judgments", Text(), nullable=False),
    Index("feedback_fresh", "tenant", "corpus", "counted"),
    Index("feedback_by_age", "tenant", "corpus", "given_at"),
)
"""One row a feedback, its highest revision; `judgments` is JSON, empty where it teaches nothing."""

RUNS: Final = Table(
    "runs",
    METADATA,
    Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("run_id", String(16), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("recipe", String(16), nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("state", String(20), nullable=False),
    Column("author", Text(), nullable=False),
    Column("reason", Text(), nullable=False),
    Column("seed", BigInteger(), nullable=False),
    Column("reverse_labels", Boolean(), nullable=False),
    Column("withheld", Boolean(), nullable=False),
    Column("gold", Text(), nullable=False),
    Column("problem", Text(), nullable=False),
    Column("dataset_version", String(16), nullable=False),
    Column("model_version", String(16), nullable=False),
    Column("parameters", Text(), nullable=False),
    Column("metrics", Text(), nullable=False),
    Column("queued_at", UtcDateTime(), nullable=False),
    Column("started_at", UtcDateTime(), nullable=True),
    Column("finished_at", UtcDateTime(), nullable=True),
    Index("runs_by_corpus", "tenant", "corpus", "number"),
    Index(
        "runs_one_automatic",
        "tenant",
        "corpus",
        unique=True,
        sqlite_where=text("finished_at IS NULL AND \"trigger\" <> 'by_hand'"),
        postgresql_where=text("finished_at IS NULL AND \"trigger\" <> 'by_hand'"),
    ),
)
"""One row a run, kept for ever; `gold` is JSON and emptied when the run ends."""

DATASETS: Final = Table(
    "datasets",
    METADATA,
    Column("dataset_version", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("counts", Text(), nullable=False),
    Column("first_at", UtcDateTime(), nullable=False),
    Column("last_at", UtcDateTime(), nullable=False),
    Column("datasheet", Text(), nullable=False),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("kind", String(16), nullable=False),
)
"""One row a data set, never changed."""

READINGS: Final = Table(
    "readings",
    METADATA,
    Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("answer_id", String(128), nullable=False),
    Column("reading", Text(), nullable=False),
    Column("counted", Boolean(), nullable=False),
)
"""One row an answer that feedback came for; `reading` is JSON: a topic's number, and numbers by signal."""

USES: Final = Table(
    "dataset_uses",
    METADATA,
    Column("dataset_version", String(16), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", String(512), primary_key=True),
    Index("dataset_uses_by_name", "kind", "name"),
)
"""What a data set holds feedback about; `kind` is `answer` or `document`."""
