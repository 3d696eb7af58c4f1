"""The Rerankers port on the artifact store: what routing names is there before it is asked for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from anabranch_faults import Fault, Invalid
from anabranch_observability import counter, get_logger
from anabranch_observability.names import retrieval as names
from anabranch_retrieval.domain import Reranker

log = get_logger()

_KEPT: Final = 16  # rerankers that routing does not name, as gates ask for them
_REMEMBERED: Final = 256
_BLOCKED: Final = (Fault, OSError)

Load = Callable[[str], Reranker]  # blocks; fetches, verifies and reads; raises Fault


class ArtifactRerankers:
    """Loaded rerankers, by version. For one event loop.

    load: runs in a thread of its own, one at a time. patience: how long a search waits for one that is being loaded.
    again_after: how long a failure is remembered; it costs searches nothing meanwhile.
    """

    def __init__(
        self, load: Load, *, patience: timedelta = timedelta(seconds=10), again_after: timedelta = timedelta(seconds=5)
    ) -> None:
        """Loads nothing yet."""
        self._load = load
        self._patience = patience.total_seconds()
        self._again_after = again_after.total_seconds()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reranker")
        self._loaded: OrderedDict[str, Reranker] = OrderedDict()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()  # version to when to try again
        self._routed: dict[str, frozenset[str]] = {}

    async def get(self, version: str) -> Reranker | None:
        """As the port says. Does not suspend when it is loaded."""
        found = self._loaded.get(version)
        if found is not None:
            self._loaded.move_to_end(version)
            return found
        failed = self._failed.get(version)
        if failed is not None and time.monotonic() < failed:
            return None
        loading = self._start(version)
        if failed is None or not self._is_routed(version):
            await asyncio.wait([loading], timeout=self._patience)
        # Else: live queries are not held up each time that a reranker which failed is tried again.
        return self._loaded.get(version)

    async def route(self, scope: str, versions: Collection[str]) -> None:
        """Note which rerankers the scope's routing names, and load those that are new; returns when that was tried."""
        self._routed[scope] = frozenset(versions)
        if not versions:
            del self._routed[scope]
        loading = [self._start(version) for version in versions if version not in self._loaded]
        if loading:
            await asyncio.wait(loading, timeout=self._patience)
        self._tidy()

    async def close(self) -> None:
        """Load no more."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _is_routed(self, version: str) -> bool:
        return any(version in versions for versions in self._routed.values())

    def _start(self, version: str) -> asyncio.Task[None]:
        task = self._loading.get(version)
        if task is None:
            task = self._loading[version] = asyncio.create_task(self._fetch(version))
            task.add_done_callback(lambda _: self._loading.pop(version, None))
        return task

    async def _fetch(self, version: str) -> None:
        began = time.perf_counter()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, version)
        except _BLOCKED as fault:
            reason = fault.reason if isinstance(fault, Invalid) else type(fault).__name__
            counter(names.RERANKER_LOADS).labels(outcome="refused").inc()
            log.warning(
                names.Log.RERANKER_REFUSED,
                reranker_version=version,
                reason=reason,
                problem=str(fault),
                again_after=self._again_after,
            )
            self._failed[version] = time.monotonic() + self._again_after
            self._failed.move_to_end(version)
            while len(self._failed) > _REMEMBERED:
                self._failed.popitem(last=False)
            return
        counter(names.RERANKER_LOADS).labels(outcome="loaded").inc()
        seconds = round(time.perf_counter() - began, 3)
        log.info(names.Log.RERANKER_LOADED, reranker_version=version, seconds=seconds)
        self._failed.pop(version, None)
        self._loaded[version] = found
        self._tidy()

    def _tidy(self) -> None:
        routed = frozenset().union(*self._routed.values())
        spare = [version for version in self._loaded if version not in routed]
        for version in spare[: max(len(spare) - _KEPT, 0)]:
            del self._loaded[version]
