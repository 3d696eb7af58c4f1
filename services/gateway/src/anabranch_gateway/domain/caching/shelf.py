"""Where entries stand: by name, by nearness within a scope, by document; bounded in number and bytes."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch_gateway.domain.caching.features import DocumentKey

_REMEMBERED: Final = 10_000
_FIRST_ROWS: Final = 16
_INT8: Final = 127.0


class Shelved(Protocol):
    """What stands on a shelf."""

    @property
    def key(self) -> str:
        """Its name."""
        ...

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def scope(self) -> bytes:
        """Beyond which it is never found."""
        ...

    @property
    def vector(self) -> bytes:
        """Int8, of norm 127; may be empty."""
        ...

    @property
    def documents(self) -> frozenset[DocumentKey]:
        """What it was drawn from."""
        ...

    @property
    def expires(self) -> float:
        """When it is too old, in the clock's seconds."""
        ...

    @property
    def size(self) -> int:
        """Bytes, about."""
        ...


E = TypeVar("E", bound=Shelved)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[E]):
    """An entry near a question."""

    entry: E
    cosine: float


class _Rows(Generic[E]):
    """The vectors of one scope, row by row."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._matrix: NDArray[np.float32] = np.zeros((_FIRST_ROWS, dimension), dtype=np.float32)
        self._entries: list[E] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: E) -> None:
        at = len(self._entries)
        if at == self._matrix.shape[0]:
            self._matrix = np.vstack([self._matrix, np.zeros_like(self._matrix)])
        self._matrix[at] = _unit(entry.vector)
        self._entries.append(entry)
        self._places[entry.key] = at

    def remove(self, entry: E) -> None:
        at, last = self._places.pop(entry.key), self._entries.pop()
        if last.key != entry.key:
            self._entries[at] = last
            self._matrix[at] = self._matrix[len(self._entries)]
            self._places[last.key] = at

    def nearest(self, vector: bytes, *, limit: int, at_least: float) -> list[Candidate[E]]:
        # Not `@`: the event loop must not wait for the threads of a library, which all wait for the same cores.
        cosines: NDArray[np.float32] = np.einsum("ij,j->i", self._matrix[: len(self._entries)], _unit(vector))
        order = np.argsort(-cosines, kind="stable")[:limit]
        return [Candidate(self._entries[at], float(cosines[at])) for at in order if cosines[at] >= at_least]


@dataclass(slots=True, kw_only=True)
class Shelf(Generic[E]):
    """Entries by least recent use.

    `entries` and `room` (bytes, about) bound it, and what a tenant has of it. A tenant over its share gives up its own;
    only then do all give up the least recent. So nobody's questions, however many, drive out at once the answers of all
    others.
    """

    entries: int = 10_000
    room: int = 128 * 1024 * 1024
    entries_of_tenant: int = 2_500
    room_of_tenant: int = 32 * 1024 * 1024
    serial: int = 0
    _all: OrderedDict[str, E] = field(default_factory=OrderedDict)
    _tenants: dict[str, OrderedDict[str, E]] = field(default_factory=dict)
    _sizes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _size: int = 0
    _rows: dict[tuple[bytes, int], _Rows[E]] = field(default_factory=dict)
    _documents: dict[DocumentKey, set[str]] = field(default_factory=dict)
    _changes: deque[tuple[int, DocumentKey]] = field(default_factory=deque)
    _changed: dict[DocumentKey, int] = field(default_factory=dict)
    _unknown_before: int = 0

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._all)

    @property
    def held(self) -> int:
        """Bytes, about."""
        return self._size

    def get(self, key: str) -> E | None:
        """The entry of a name."""
        entry = self._all.get(key)
        if entry is not None:
            self.touch(entry)
        return entry

    def touch(self, entry: E) -> None:
        """Says that it was used."""
        if entry.key in self._all:
            self._all.move_to_end(entry.key)
            self._tenants[entry.tenant].move_to_end(entry.key)

    def nearest(self, scope: bytes, vector: bytes, *, limit: int, at_least: float) -> Sequence[Candidate[E]]:
        """Entries of a scope by cosine, highest first."""
        rows = self._rows.get((scope, len(vector)))
        return rows.nearest(vector, limit=limit, at_least=at_least) if rows else ()

    def put(self, entry: E) -> int:
        """Takes an entry in the place of the one of its name; how many others had to go. One too large is not taken."""
        if (old := self._all.get(entry.key)) is not None:
            self._remove(old)
        if entry.size > self.room_of_tenant or entry.size > self.room:
            return 0
        self._all[entry.key] = entry
        own = self._tenants.setdefault(entry.tenant, OrderedDict())
        own[entry.key] = entry
        self._size += entry.size
        self._sizes[entry.tenant] += entry.size
        if entry.vector:
            place = (entry.scope, len(entry.vector))
            self._rows.setdefault(place, _Rows(len(entry.vector))).add(entry)
        for document in entry.documents:
            self._documents.setdefault(document, set()).add(entry.key)
        dropped = 0
        while len(own) > self.entries_of_tenant or self._sizes[entry.tenant] > self.room_of_tenant:
            dropped += self._remove(next(iter(own.values())))
        while len(self._all) > self.entries or self._size > self.room:
            dropped += self._remove(next(iter(self._all.values())))
        return dropped

    def forget(self, document: DocumentKey) -> int:
        """Drops what was drawn from a document, and what is on its way and was; how many went."""
        self.serial += 1
        self._changed[document] = self.serial
        self._changes.append((self.serial, document))
        if len(self._changes) > _REMEMBERED:
            self._unknown_before, oldest = self._changes.popleft()
            if self._changed.get(oldest) == self._unknown_before:
                del self._changed[oldest]
        return self._remove_all(self._all[key] for key in list(self._documents.get(document, ())))

    def clear(self) -> int:
        """Drops everything, and what is on its way."""
        self.serial += 1
        self._unknown_before = self.serial
        return self._remove_all(list(self._all.values()))

    def changed_since(self, serial: int, documents: Iterable[DocumentKey]) -> bool:
        """Whether one of the documents may have changed since a moment that `serial` told."""
        return serial < self._unknown_before or any(self._changed.get(each, 0) > serial for each in documents)

    def expire(self, now: float) -> int:
        """Drops the least recent that are too old; how many. Others are found out when it is their turn."""
        dropped = 0
        while self._all and (oldest := next(iter(self._all.values()))).expires <= now:
            dropped += self._remove(oldest)
        return dropped

    def drop(self, entry: E) -> None:
        """Drops one."""
        if self._all.get(entry.key) is entry:
            self._remove(entry)

    def _remove_all(self, entries: Iterable[E]) -> int:
        return sum(self._remove(entry) for entry in entries)

    def _remove(self, entry: E) -> int:
        del self._all[entry.key]
        own = self._tenants[entry.tenant]
        del own[entry.key]
        self._size -= entry.size
        self._sizes[entry.tenant] -= entry.size
        if not own:
            del self._tenants[entry.tenant]
            del self._sizes[entry.tenant]
        if entry.vector:
            place = (entry.scope, len(entry.vector))
            self._rows[place].remove(entry)
            if not len(self._rows[place]):
                del self._rows[place]
        for document in entry.documents:
            keys = self._documents[document]
            keys.discard(entry.key)
            if not keys:
                del self._documents[document]
        return 1


def _unit(vector: bytes) -> NDArray[np.float32]:
    values = np.frombuffer(vector, dtype=np.int8).astype(np.float32) / _INT8
    length = float(np.linalg.norm(values))
    return values / length if length else values
