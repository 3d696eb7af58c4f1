"""How much is done at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from anabranch_faults import Overloaded


class Gate:
    """Lets a bounded number of `what` in, in all and per tenant, and refuses the rest at once.

    Refusing early keeps latency flat under overload; the bound per tenant leaves room for the others.
    """

    def __init__(
        self,
        *,
        limit: int,
        per_tenant: int,
        what: str = "questions",
        retry_after: timedelta = timedelta(seconds=1),
    ) -> None:
        """Takes the bounds and the hint that goes with a refusal."""
        self._what = what
        self._limit = limit
        self._per_tenant = per_tenant
        self._retry_after = retry_after
        self._inside: Counter[str] = Counter()
        self._total = 0

    @property
    def inside(self) -> int:
        """How many are in now."""
        return self._total

    @contextmanager
    def admit(self, tenant: str) -> Iterator[None]:
        """Holds a place for the time of the block. Raises Overloaded when there is none."""
        if self._total >= self._limit:
            raise Overloaded(f"{self._limit} {self._what} are under way already", retry_after=self._retry_after)
        if self._inside[tenant] >= self._per_tenant:
            raise Overloaded(
                f"{self._per_tenant} {self._what} of tenant {tenant} are under way already",
                retry_after=self._retry_after,
            )
        self._total += 1
        self._inside[tenant] += 1
        try:
            yield
        finally:
            self._total -= 1
            self._inside[tenant] -= 1
            if not self._inside[tenant]:
                del self._inside[tenant]
