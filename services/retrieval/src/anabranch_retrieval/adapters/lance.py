"""The embedded index: LanceDB, a table an edition, in a folder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
from lancedb.index import FTS, BTree
from lancedb.query import MatchQuery

from anabranch_faults import Transient
from anabranch_retrieval.adapters import tokens
from anabranch_retrieval.adapters.analysis import Analyse
from anabranch_retrieval.domain import Edition, Entry, Scored, Search, fuse

_CANDIDATES: Final = 100  # of each half, at least
_TIDY_AFTER: Final = 24  # writes; each leaves a fragment, and what is not in the index yet is scanned
_PAUSE: Final = timedelta(seconds=1)
_PAUSES: Final = tuple(timedelta(milliseconds=wait) for wait in (10, 50, 200, 500))  # after a write that lost
_KEEP: Final = timedelta(minutes=10)  # versions of a table stay this long for searches under way
_AT_ONCE: Final = 200  # vectors in one look-up
_NEAR: Final = 1e-3  # cosine distance of a vector to itself, with room for rounding
_TERM_BYTES: Final = 512


class LanceIndex:
    """The VectorIndex port on LanceDB. Searches by vector are exact: every vector is compared.

    Any number of processes may use the folder at once. Writes to one table take turns inside a process.
    """

    def __init__(self, folder: Path, *, analyse: Analyse) -> None:
        """Opens nothing yet."""
        self._folder = folder
        self._analyse = analyse
        self._database: lancedb.AsyncConnection | None = None
        self._tables: dict[str, lancedb.AsyncTable] = {}
        self._writing: dict[str, asyncio.Lock] = {}
        self._writes: dict[str, int] = {}
        self._tidying: dict[str, asyncio.Task[None]] = {}

    async def connect(self) -> None:
        """Make the folder and open it."""
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        # Zero: a search sees what another process wrote before it.
        self._database = await lancedb.connect_async(str(self._folder), read_consistency_interval=timedelta(0))

    async def close(self) -> None:
        """Finish tidying up and close."""
        for task in self._tidying.values():
            task.cancel()
        await asyncio.gather(*self._tidying.values(), return_exceptions=True)
        for table in self._tables.values():
            table.close()  # type: ignore[no-untyped-call]  # theirs
        if self._database is not None:
            self._database.close()  # type: ignore[no-untyped-call]  # theirs

    async def check(self) -> None:
        """A folder does not go away."""

    async def open(self, edition: Edition) -> None:
        """As the port says."""
        name = _name(edition)
        if name in self._tables:
            return
        async with self._turn(name):
            if name in self._tables:
                return
            if await self._table(name) is None:
                self._tables[name] = await self._create(name, edition.model.dimension)

    async def put(self, edition: Edition, entries: Sequence[Entry]) -> None:
        """As the port says."""
        if not entries:
            return
        name = _name(edition)
        table = await self._existing(name)
        rows = self._rows(entries, edition.model.dimension)
        upsert = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        await self._commit(name, lambda: upsert.execute(rows))
        self._wrote(name)

    async def missing(self, edition: Edition, entries: Sequence[Entry]) -> set[str]:
        """As the port says: a chunk's own vector must find it, and so must its terms."""
        table = await self._table(_name(edition))
        lost: set[str] = set()
        for start in range(0, len(entries), _AT_ONCE):
            some = entries[start : start + _AT_ONCE]
            if table is None:
                lost |= {entry.chunk.id for entry in some}
                continue
            by_vector, by_keyword = await asyncio.gather(self._seen(table, some), self._read(table, some))
            lost |= {entry.chunk.id for entry in some} - (by_vector & by_keyword)
        return lost

    async def search(self, edition: Edition, search: Search) -> list[Scored]:
        """As the port says."""
        table = await self._table(_name(edition))
        if table is None:
            return []
        depth = max(_CANDIDATES, search.limit)
        allowed = _filter(search)
        terms = self._analyse(search.text)
        vector, keyword = await asyncio.gather(
            self._by_vector(table, search.vector, allowed, depth) if search.alpha > 0 else _nothing(),
            self._by_terms(table, terms, allowed, depth) if search.alpha < 1 else _nothing(),
        )
        return fuse(vector, keyword, alpha=search.alpha)[: search.limit]

    async def remove(self, edition: Edition, chunk_ids: Sequence[str]) -> None:
        """As the port says."""
        name = _name(edition)
        table = await self._table(name)
        if table is None:
            return
        for start in range(0, len(chunk_ids), _AT_ONCE):
            condition = _among("id", chunk_ids[start : start + _AT_ONCE])
            await self._commit(name, partial(table.delete, condition))
            left = await table.count_rows(condition)
            if left:
                raise Transient(f"{left} chunks deleted from {edition} are still there")
        self._wrote(name)

    async def point(self, edition: Edition) -> None:
        """LanceDB has no aliases: the catalogue's pointer is the only name."""

    async def drop(self, edition: Edition) -> None:
        """As the port says."""
        name = _name(edition)
        async with self._turn(name):
            self._tables.pop(name, None)
            await self._opened.drop_table(name, ignore_missing=True)

    @property
    def _opened(self) -> lancedb.AsyncConnection:
        if self._database is None:
            raise RuntimeError("connect() first")
        return self._database

    def _turn(self, name: str) -> asyncio.Lock:
        return self._writing.setdefault(name, asyncio.Lock())

    async def _commit(self, name: str, write: Callable[[], Awaitable[object]]) -> None:
        """A write that may lose against another process's, or against tidying up, and then is made again."""
        for pause in _PAUSES:
            try:
                async with self._turn(name):
                    await write()
            except RuntimeError as error:
                # Lance has no type of its own for this, only its wording.
                if "conflict" not in str(error).lower():
                    raise
                await asyncio.sleep(pause.total_seconds())
            else:
                return
        raise Transient(f"writes to {name} lost against others {len(_PAUSES)} times")

    async def _table(self, name: str) -> lancedb.AsyncTable | None:
        table = self._tables.get(name)
        if table is None:
            try:
                table = await self._opened.open_table(name)
            except (FileNotFoundError, ValueError):  # LanceDB raises either when there is none
                return None
            self._tables[name] = table
            self._wrote(name)  # perhaps by a process that did not come to tidying up
        return table

    async def _existing(self, name: str) -> lancedb.AsyncTable:
        table = await self._table(name)
        if table is None:
            raise Transient(f"the table {name} went away")
        return table

    async def _create(self, name: str, dimension: int) -> lancedb.AsyncTable:
        table = await self._opened.create_table(name, schema=_schema(dimension), exist_ok=True)
        terms = FTS(
            base_tokenizer="whitespace",
            lower_case=False,
            stem=False,
            remove_stop_words=False,
            ascii_folding=False,
            max_token_length=_TERM_BYTES,
            with_position=False,
        )
        await table.create_index("terms", config=terms)
        await table.create_index("id", config=BTree())
        return table

    def _rows(self, entries: Sequence[Entry], dimension: int) -> pa.Table:
        chunks = [entry.chunk for entry in entries]
        vectors = np.ascontiguousarray(np.stack([entry.vector for entry in entries]), dtype=np.float32)
        columns = [
            pa.array([chunk.id for chunk in chunks]),
            pa.array([tokens.document(chunk.document.document_id) for chunk in chunks]),
            pa.array([tokens.labels(chunk.acl) for chunk in chunks]),
            pa.array([tokens.facets(chunk.metadata) for chunk in chunks], type=pa.list_(pa.string())),
            pa.array([" ".join(self._analyse(chunk.searchable)) for chunk in chunks]),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension),
        ]
        return pa.Table.from_arrays(columns, schema=_schema(dimension))

    async def _by_vector(self, table: Any, vector: Any, allowed: str, depth: int) -> dict[str, float]:
        query = table.query().nearest_to(vector).distance_type("cosine").where(allowed)
        found = await query.select(["id", "_distance"]).limit(depth).to_arrow()
        ids, distances = found["id"].to_pylist(), found["_distance"].to_pylist()
        return {one: 1.0 - distance for one, distance in zip(ids, distances, strict=True)}

    async def _by_terms(self, table: Any, terms: Sequence[str], allowed: str, depth: int) -> dict[str, float]:
        query = table.query().nearest_to_text(_any_of(terms)).where(allowed)
        found = await query.select(["id", "_score"]).limit(depth).to_arrow()
        return dict(zip(found["id"].to_pylist(), found["_score"].to_pylist(), strict=True))

    async def _seen(self, table: Any, entries: Sequence[Entry]) -> set[str]:
        """Which of these their own vectors find; all in one scan."""
        mine = _among("id", [entry.chunk.id for entry in entries])
        vectors = [entry.vector for entry in entries]
        query = table.query().nearest_to(vectors if len(vectors) > 1 else vectors[0]).distance_type("cosine")
        found = (
            await query.where(mine)
            .distance_range(upper_bound=_NEAR)
            .select(["id", "_distance"])
            .limit(len(entries))
            .to_arrow()
        )
        return set(found["id"].to_pylist())

    async def _read(self, table: Any, entries: Sequence[Entry]) -> set[str]:
        """Which of these one of their own terms finds."""
        terms = {self._analyse(entry.chunk.searchable)[0] for entry in entries}
        mine = _among("id", [entry.chunk.id for entry in entries])
        found = await self._by_terms(table, sorted(terms), mine, len(entries))
        return set(found)

    def _wrote(self, name: str) -> None:
        self._writes[name] = self._writes.get(name, 0) + 1
        tidying = self._tidying.get(name)
        if tidying is None or tidying.done():
            self._tidying[name] = asyncio.create_task(self._tidy(name))

    async def _tidy(self, name: str) -> None:
        """Merge fragments and bring new rows into the indexes, when writes pause or have become many.

        Searches and writes go on meanwhile. It takes a tenth of a second; left undone, every search costs double.
        """
        while written := self._writes.get(name, 0):
            await asyncio.sleep(_PAUSE.total_seconds())
            if written != self._writes[name] < _TIDY_AFTER:
                continue
            table = self._tables.get(name)
            if table is None:
                return
            self._writes[name] = 0
            # Lost against a write: the next one brings it up again.
            with contextlib.suppress(RuntimeError):
                await table.optimize(cleanup_older_than=_KEEP)


async def _nothing() -> Mapping[str, float]:
    return {}


def _name(edition: Edition) -> str:
    return f"{tokens.corpus(edition.corpus)}__{tokens.version(edition.model.version)}"


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("document", pa.string()),
            pa.field("labels", pa.list_(pa.string())),
            pa.field("facets", pa.list_(pa.string())),
            pa.field("terms", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimension)),
        ]
    )


def _filter(search: Search) -> str:
    """SQL of the labels, filters and documents; made of digests and UUIDs only, so nothing needs quoting."""
    conditions = [f"array_has_any(labels, {_array(tokens.readers(search.acl))})"]
    if search.filters:
        conditions.append(f"array_has_all(facets, {_array(tokens.facets(search.filters))})")
    if search.document_ids:
        conditions.append(_among("document", [tokens.document(one) for one in search.document_ids]))
    return " AND ".join(conditions)


def _array(values: Sequence[str]) -> str:
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def _among(column: str, values: Sequence[str]) -> str:
    return f"{column} IN (" + ", ".join(f"'{value}'" for value in values) + ")"


def _any_of(terms: Sequence[str]) -> MatchQuery:
    make: Any = MatchQuery  # its defaults are pydantic's, which type checkers do not see
    query: MatchQuery = make(" ".join(terms), "terms")
    return query
