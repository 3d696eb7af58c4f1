"""The tables as queries see them; migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, MetaData, String, Table, Text

from anabranch_store import UtcDateTime

__all__ = [
    "ARM_WEIGHTS",
    "DECISIONS",
    "EXPOSURES",
    "GATES",
    "GOLDEN_SETS",
    "LOOKS",
    "OPINIONS",
    "RUNS",
    "SAMPLE_RATIOS",
    "SCORES",
    "VECTORS",
    "VERDICTS",
    "WAITING",
]

_METADATA: Final = MetaData()
_SERIAL: Final = BigInteger().with_variant(Integer(), "sqlite")

GOLDEN_SETS: Final = Table(
    "golden_sets",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("version", String(16), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("questions", Integer(), nullable=False),
    Column("content", LargeBinary(), nullable=False),
    Column("author", Text(), nullable=False),
    Column("put_at", UtcDateTime(), nullable=False),
)
"""One row a put that changed something; the newest of a name holds. `content` is the canonical form, deflated."""

RUNS: Final = Table(
    "runs",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("run_id", String(16), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("dataset", String(128), nullable=False),
    Column("dataset_version", String(16), nullable=False),
    Column("variant_id", String(64), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("answers", Boolean(), nullable=False),
    Column("scorer", String(160), nullable=False),
    Column("index_generation", BigInteger(), nullable=False),
    Column("state", String(16), nullable=False),
    Column("problem", Text(), nullable=False),
    Column("done", Integer(), nullable=False),
    Column("total", Integer(), nullable=False),
    Column("metrics", Text(), nullable=False),
    Column("scores", LargeBinary(), nullable=False),
    Column("started_at", UtcDateTime(), nullable=False),
    Column("finished_at", UtcDateTime(), nullable=True),
    Column("beats", BigInteger(), nullable=False, server_default="0"),
)
"""One row a run; `beats` grows while a process is at it.

`scores` is deflated JSON: question id -> [scores, latency in seconds, prompt tokens, completion tokens, model,
backend], the last four only where an answer was written and its tokens were counted.
"""

GATES: Final = Table(
    "gates",
    _METADATA,
    Column("gate_id", String(16), primary_key=True),
    Column("candidate_id", String(64), nullable=False),
    Column("passed", Boolean(), nullable=False),
    Column("verdict", Text(), nullable=False),
    Column("decided_at", UtcDateTime(), nullable=False),
)
"""One row a verdict, never changed; `verdict` is JSON."""

EXPOSURES: Final = Table(
    "exposures",
    _METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("answer_id", String(128), primary_key=True),
    Column("experiment_id", String(64), nullable=False),
    Column("routing_revision", BigInteger(), nullable=False),
    Column("arm", String(32), nullable=False),
    Column("unit", String(40), nullable=False),
    Column("served_at", UtcDateTime(), nullable=False),
    Column("latency", Float(), nullable=False),
    Column("abstained", Boolean(), nullable=False),
    Column("groundedness", Float(), nullable=True),
    Column("citation_precision", Float(), nullable=True),
    Column("blocked", Boolean(), nullable=False, server_default="0"),
    Column("tokens", Float(), nullable=True),
    Column("microdollars", Float(), nullable=True),
)
"""One row an answer that exposed somebody to an arm; `unit` is a digest of the tenant and the person or session."""

EXPLORATIONS: Final = Table(
    "explorations",
    _METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("answer_id", String(128), primary_key=True),
    Column("corpus", String(128), nullable=False),
    Column("variant_id", String(64), nullable=False),
    Column("served_at", UtcDateTime(), nullable=False),
    Column("difficulty", Float(), nullable=False),
    Column("draft_support", Float(), nullable=False),
    Column("strong", Boolean(), nullable=False),
    Column("tokens", Float(), nullable=False),
    Column("microdollars", Float(), nullable=True),
)
"""One row an answer of a cascade whose model was chosen at random."""

OPINIONS: Final = Table(
    "opinions",
    _METADATA,
    Column("feedback_id", String(64), primary_key=True),
    Column("revision", BigInteger(), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("answer_id", String(128), nullable=False),
    Column("asker", String(40), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", Float(), nullable=True),
    Column("experiment_id", String(64), nullable=False),
    Column("served_at", UtcDateTime(), nullable=True),
)
"""One row a feedback, its latest revision. `value` is null where it says nothing of satisfaction, or was withdrawn."""

DECISIONS: Final = Table(
    "decisions",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("experiment_id", String(64), nullable=False),
    Column("phase_revision", BigInteger(), nullable=False),
    Column("discriminator", String(64), nullable=False),
    Column("decision", Text(), nullable=False),
    Column("decided_at", UtcDateTime(), nullable=False),
)
"""One row a decision told; unique by experiment, phase and discriminator. `decision` is JSON."""

LOOKS: Final = Table(
    "looks",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("experiment_id", String(64), nullable=False),
    Column("phase_revision", BigInteger(), nullable=False),
    Column("fraction", Float(), nullable=False),
)
"""One row a look of a group-sequential test: the share of the horizon at which it was taken."""

ARM_WEIGHTS: Final = Table(
    "arm_weights",
    _METADATA,
    Column("experiment_id", String(64), primary_key=True),
    Column("routing_revision", BigInteger(), primary_key=True),
    Column("weights", Text(), nullable=False),
)
"""One row a routing that dealt people to arms; `weights` is JSON: arm -> weight."""

SAMPLE_RATIOS: Final = Table(
    "sample_ratios",
    _METADATA,
    Column("experiment_id", String(64), primary_key=True),
    Column("phase_revision", BigInteger(), primary_key=True),
    Column("p_value", Float(), nullable=False),
)
"""One row a phase: the least p-value of the split at any look."""

SCORES: Final = Table(
    "scores",
    _METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("answer_id", String(128), primary_key=True),
    Column("message", LargeBinary(), nullable=False),
    Column("scored_at", UtcDateTime(), nullable=False),
)
"""One row an answer that was scored live; `message` is AnswerScored."""

WAITING: Final = Table(
    "waiting",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("answer_id", String(128), nullable=False),
    Column("message", LargeBinary(), nullable=False),
    Column("material", LargeBinary(), nullable=False),
    Column("since", UtcDateTime(), nullable=False),
    Column("free_from", UtcDateTime(), nullable=False),
)
"""One row an answer that waits for the judge, until its scores are told. `message` is AnswerScored without a judgment,
`material` deflated JSON: what the judge is shown. Nobody takes it before `free_from`."""

VERDICTS: Final = Table(
    "verdicts",
    _METADATA,
    Column("digest", String(64), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("judged_at", UtcDateTime(), nullable=False),
)
"""One row a verdict of the judge, by the digest of what was asked; its reasons are not kept."""

VECTORS: Final = Table(
    "vectors",
    _METADATA,
    Column("version", String(128), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("vector", LargeBinary(), nullable=False),
    Column("kept_at", UtcDateTime(), nullable=False),
)
"""One row a sentence and embedding version: the first vector it got, int8. Embedding it again may differ in a bit."""
