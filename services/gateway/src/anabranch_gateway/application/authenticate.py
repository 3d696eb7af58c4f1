"""Who calls."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from anabranch_faults import Unauthenticated
from anabranch_gateway.application.ports import Keys
from anabranch_gateway.domain.keys import LONGEST, Caller, digest_of, key_id_of

SCHEME: Final = "bearer "
REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller | None
    until: float


class Authenticate:
    """An `authorization` value in, a caller out.

    What the store says of a key, also that it has none, holds for `remember`: a revoked key works that much longer,
    and neither load nor a flood of wrong keys reaches the database more often. Only digests are remembered.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        remember: timedelta = timedelta(seconds=5),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes the store, and how long its answers hold."""
        self._keys = keys
        self._remember = remember.total_seconds()
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def __call__(self, authorization: str | None) -> Caller:
        """The caller. Raises Unauthenticated in a sentence that tells a wrong header from a wrong key."""
        if not authorization:
            raise Unauthenticated("no key: send `authorization: Bearer KEY`", field="authorization", reason="NO_KEY")
        if authorization[: len(SCHEME)].lower() != SCHEME:
            raise Unauthenticated("must be `Bearer KEY`", field="authorization", reason="NO_KEY")
        secret = authorization[len(SCHEME) :].strip()
        if not secret or len(secret) > LONGEST:
            raise Unauthenticated("must be `Bearer KEY`", field="authorization", reason="NO_KEY")
        digest = digest_of(secret)
        now = self._clock()
        known = self._known.get(digest)
        if known is None or known.until <= now:
            key = await self._keys.find(key_id_of(digest))
            caller = key.caller if key is not None and key.opens_for(digest) else None
            known = _Known(caller=caller, until=now + self._remember)
            self._known[digest] = known
            self._known.move_to_end(digest)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        if known.caller is None:
            raise Unauthenticated("the key is unknown or revoked", field="authorization", reason="UNKNOWN_KEY")
        return known.caller
