"""Between rows and the domain."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, Table, and_
from sqlalchemy.sql.elements import ColumnElement

from anabranch_retrieval.domain import Corpus, CorpusKey, Model, Reindex, ReindexState


def of(table: Table, key: CorpusKey) -> ColumnElement[bool]:
    """The rows of one corpus: part of every condition, so that nothing is read across tenants."""
    return and_(table.c.tenant == key.tenant, table.c.corpus == key.corpus)


def model_text(model: Model) -> str:
    """A model as JSON."""
    return json.dumps(asdict(model), sort_keys=True)


@lru_cache(maxsize=256)
def model_from(text: str) -> Model:
    """A model from JSON."""
    return Model(**json.loads(text))


def corpus_from(row: Row[Any]) -> Corpus:
    """A row of corpora."""
    return Corpus(
        key=CorpusKey(tenant=row.tenant, corpus=row.corpus),
        live=model_from(row.live_model),
        building=model_from(row.building_model) if row.building_model else None,
        previous=model_from(row.previous_model) if row.previous_model else None,
        generation=row.generation,
        document_count=row.document_count,
        chunk_count=row.chunk_count,
        changed_at=row.changed_at,
    )


def reindex_from(row: Row[Any]) -> Reindex:
    """A row of reindexes."""
    return Reindex(
        id=str(row.id),
        corpus=CorpusKey(tenant=row.tenant, corpus=row.corpus),
        from_version=row.from_version,
        to_version=row.to_version,
        state=ReindexState(row.state),
        chunks_done=row.chunks_done,
        chunks_total=row.chunks_total,
        problem=row.problem,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
