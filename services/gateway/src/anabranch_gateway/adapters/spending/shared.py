"""Accounts that several gateways share, in Redis or Valkey: one script an operation, by the server's clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from anabranch_faults import Unreachable
from anabranch_gateway.application.spending import Decision, Held
from anabranch_gateway.domain.spending import Bounds, CallBound, Cost, Crossing, Reason, Refusal
from anabranch_observability import counter
from anabranch_observability.names import gateway as names

# The tag in braces puts all keys into one slot of a cluster.
PREFIX: Final = "{anabranch-spending}"
BATCH: Final = 64
OPERATIONS: Final = ("admit", "leave", "reserve", "settle", "release", "renew")
_REPLY: Final = 6
_TOLD: Final = 7


@dataclass(frozen=True, slots=True)
class _Call:
    operation: str
    arguments: Sequence[str | int]
    reply: asyncio.Future[Any]


class RedisLedger:
    """The Ledger port.

    Operations that come while others are on their way go together in one write. A script that the server does not know
    (it was restarted) is loaded, and called again. `clock` gives milliseconds in the place of the server's clock, for
    tests.
    """

    def __init__(
        self,
        url: str,
        *,
        password: str | None = None,
        lease: timedelta = timedelta(seconds=30),
        timeout: timedelta = timedelta(seconds=1),
        prefix: str = PREFIX,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Opens nothing. Raises ValueError for a url that is none."""
        options: dict[str, Any] = {"password": password} if password else {}
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout.total_seconds(),
            socket_connect_timeout=timeout.total_seconds(),
            retry=Retry(NoBackoff(), 1),  # every operation may be repeated; a connection that went stale is replaced
            **options,
        )
        self._lease = _milliseconds(lease)
        self._prefix = prefix
        self._clock = clock or (lambda: 0)
        folder = files(__package__).joinpath("scripts")
        prelude = folder.joinpath("prelude.lua").read_text(encoding="utf-8")
        self._sources = {
            name: prelude + folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in OPERATIONS
        }
        self._digests: dict[str, str] = {}
        self._waiting: deque[_Call] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def admit(self, call_id: str, bounds: Sequence[CallBound]) -> Refusal | None:
        """See the port."""
        arguments: list[str | int] = [call_id, self._lease, len(bounds)]
        for bound in bounds:
            arguments += [bound.account, _bound(bound.requests), _bound(bound.in_flight)]
        return _refusal(await self._call("admit", arguments))

    async def leave(self, call_id: str, bounds: Sequence[CallBound]) -> None:
        """See the port."""
        if accounts := [bound.account for bound in bounds if bound.in_flight is not None]:
            await self._call("leave", [call_id, *accounts])

    async def reserve(self, call_id: str, bounds: Bounds, cost: Cost) -> Decision:
        """See the port."""
        arguments = [call_id, self._lease, cost.micros, cost.tokens, *_bounds(bounds)]
        reply = await self._call("reserve", arguments)
        if lost := int(reply[5]):
            counter(names.RESERVATIONS_LOST).inc(lost)
        return Decision(refusal=_refusal(reply), crossings=self._crossings(reply[_REPLY:]))

    async def settle(self, call_id: str, bounds: Bounds, cost: Cost | None) -> Sequence[Crossing]:
        """See the port."""
        amounts = (-1, -1) if cost is None else (cost.micros, cost.tokens)
        return self._crossings(await self._call("settle", [call_id, *amounts, *_bounds(bounds)]))

    async def release(self, call_id: str) -> None:
        """See the port."""
        await self._call("release", [call_id])

    async def renew(self, held: Sequence[Held]) -> None:
        """See the port."""
        arguments: list[str | int] = [self._lease]
        for each in held:
            accounts = [bound.account for bound in each.calls if bound.in_flight is not None]
            arguments += [each.call_id, int(each.reserved), len(accounts), *accounts]
        await self._call("renew", arguments)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def _call(self, operation: str, arguments: Sequence[str | int]) -> Any:
        call = _Call(operation, (self._clock(), *arguments), asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())
        return await call.reply

    async def _send_all(self) -> None:
        while self._waiting:
            batch: list[_Call] = []
            while self._waiting and len(batch) < BATCH:
                call = self._waiting.popleft()
                if not call.reply.done():  # its caller has given up: it must not happen any more
                    batch.append(call)
            if batch:
                await self._send(batch)

    async def _send(self, batch: Sequence[_Call]) -> None:
        try:
            if not self._digests:
                await self._load()
            replies = await self._execute(batch)
            if unknown := [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
                await self._load()
                again = await self._execute([batch[place] for place in unknown])
                for place, reply in zip(unknown, again, strict=True):
                    replies[place] = reply
        except (RedisError, OSError, TimeoutError) as error:
            replies = [error] * len(batch)
        for call, reply in zip(batch, replies, strict=True):
            if call.reply.done():
                continue
            if isinstance(reply, Exception):
                fault = Unreachable(f"the store of quotas is away: {type(reply).__name__}")
                fault.__cause__ = reply
                call.reply.set_exception(fault)
            else:
                call.reply.set_result(reply)

    async def _load(self) -> None:
        for name, source in self._sources.items():
            self._digests[name] = await self._redis.script_load(source)

    async def _execute(self, batch: Sequence[_Call]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for call in batch:
                pipe.evalsha(self._digests[call.operation], 1, self._prefix, *map(str, call.arguments))
            return list(await pipe.execute(raise_on_error=False))

    def _crossings(self, told: Sequence[Any]) -> Sequence[Crossing]:
        if not told:
            return ()
        clock = self._clock()
        at = datetime.fromtimestamp(clock / 1000, tz=UTC) if clock else datetime.now(tz=UTC)
        return [_crossing(told[first : first + _TOLD], at) for first in range(0, len(told), _TOLD)]


def _crossing(told: Sequence[Any], at: datetime) -> Crossing:
    account, window, start, hard, bound, spent, reserved = told
    return Crossing(
        account=account.decode(),
        window=timedelta(seconds=int(window)),
        start=datetime.fromtimestamp(int(start), tz=UTC),
        hard=hard == b"1",
        bound=int(bound),
        spent=int(spent),
        reserved=int(reserved),
        at=at,
    )


def _refusal(reply: Sequence[Any]) -> Refusal | None:
    if reply[0]:
        return None
    if reply[1] == b"OVER":
        raise Unreachable("the call was given up before it was reserved")
    return Refusal(
        reason=Reason(reply[1].decode()),
        account=reply[2].decode(),
        window=timedelta(seconds=int(reply[3])),
        wait=timedelta(milliseconds=int(reply[4])),
    )


def _bounds(bounds: Bounds) -> list[str | int]:
    arguments: list[str | int] = [len(bounds.budgets)]
    for budget in bounds.budgets:
        arguments += [budget.account, budget.seconds, budget.soft, _bound(budget.hard)]
    arguments.append(len(bounds.tokens))
    for tokens in bounds.tokens:
        arguments += [tokens.account, tokens.limit]
    return arguments


def _bound(value: int | None) -> int:
    return -1 if value is None else value


def _milliseconds(value: timedelta) -> int:
    return round(value.total_seconds() * 1000)
