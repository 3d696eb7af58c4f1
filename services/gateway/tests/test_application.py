from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from anabranch_faults import Invalid, NotFound, Overloaded, Unauthenticated
from anabranch_gateway.adapters.key_file import KeyFile
from anabranch_gateway.application.admin import AdministerKeys
from anabranch_gateway.application.ask import session_of
from anabranch_gateway.application.authenticate import REMEMBERED, Authenticate
from anabranch_gateway.application.gate import Gate
from anabranch_gateway.domain.keys import Caller, Key
from anabranch_gateway.domain.questions import Question


class MemoryKeys:
    def __init__(self) -> None:
        self.kept: dict[str, Key] = {}
        self.lookups = 0

    async def find(self, key_id: str) -> Key | None:
        self.lookups += 1
        return self.kept.get(key_id)

    async def add(self, key: Key) -> None:
        self.kept[key.key_id] = key

    async def of_tenant(self, tenant: str) -> Sequence[Key]:
        return [key for key in self.kept.values() if key.tenant == tenant]

    async def revoke(self, key_id: str, *, at: datetime) -> bool:
        key = self.kept.get(key_id)
        if key is None or key.revoked_at:
            return False
        self.kept[key_id] = Key(
            key_id=key.key_id,
            tenant=key.tenant,
            labels=key.labels,
            digest=key.digest,
            note=key.note,
            created_at=key.created_at,
            revoked_at=at,
        )
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class TestAuthenticate:
    async def test_a_key_names_its_tenant_and_labels(self) -> None:
        keys = MemoryKeys()
        made = await AdministerKeys(keys).create("acme", labels=["hr"])
        caller = await Authenticate(keys)(f"Bearer {made.secret}")
        assert caller == Caller(tenant="acme", key_id=made.key.key_id, labels=frozenset({"hr"}))
        assert await Authenticate(keys)(f"bearer  {made.secret} ") == caller

    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Basic abc", "ab-secret", f"Bearer {'x' * 300}", "Bearer ab-wrong"]
    )
    async def test_whoever_has_no_key_is_told_so(self, header: str | None) -> None:
        with pytest.raises(Unauthenticated) as fault:
            await Authenticate(MemoryKeys())(header)
        assert fault.value.field == "authorization"

    async def test_the_store_is_asked_once_for_a_while_also_about_wrong_keys(self) -> None:
        keys, clock = MemoryKeys(), Clock()
        made = await AdministerKeys(keys).create("acme")
        authenticate = Authenticate(keys, remember=timedelta(seconds=5), clock=clock)
        for _ in range(50):
            await authenticate(f"Bearer {made.secret}")
            with pytest.raises(Unauthenticated):
                await authenticate("Bearer ab-wrong")
        assert keys.lookups == 2
        clock.now = 5.1
        await authenticate(f"Bearer {made.secret}")
        assert keys.lookups == 3

    async def test_a_revoked_key_ends_when_it_is_no_longer_remembered(self) -> None:
        keys, clock = MemoryKeys(), Clock()
        made = await AdministerKeys(keys).create("acme")
        authenticate = Authenticate(keys, remember=timedelta(seconds=5), clock=clock)
        await authenticate(f"Bearer {made.secret}")
        await AdministerKeys(keys).revoke(made.key.key_id)
        await authenticate(f"Bearer {made.secret}")
        clock.now = 5.1
        with pytest.raises(Unauthenticated, match="unknown or revoked"):
            await authenticate(f"Bearer {made.secret}")

    async def test_a_flood_of_wrong_keys_takes_bounded_memory(self) -> None:
        authenticate = Authenticate(MemoryKeys())
        for n in range(REMEMBERED + 100):
            with pytest.raises(Unauthenticated):
                await authenticate(f"Bearer ab-{n}")
        assert len(authenticate._known) == REMEMBERED


class TestFirstKey:
    async def test_the_first_start_makes_a_key_in_a_file_of_mode_0600_that_holds_nothing_else(
        self, tmp_path: Path
    ) -> None:
        keys, path = MemoryKeys(), tmp_path / "deep" / "key"
        key = await AdministerKeys(keys).first("acme", KeyFile(path))
        assert key is not None
        assert path.stat().st_mode & 0o777 == 0o600
        assert [each.name for each in path.parent.iterdir()] == ["key"]
        caller = await Authenticate(keys)(f"Bearer {path.read_text()}")
        assert caller.tenant == "acme"

    async def test_a_second_start_changes_nothing(self, tmp_path: Path) -> None:
        keys, file = MemoryKeys(), KeyFile(tmp_path / "key")
        await AdministerKeys(keys).first("acme", file)
        before = file.path.read_bytes()
        assert await AdministerKeys(keys).first("acme", file) is None
        assert file.path.read_bytes() == before
        assert len(keys.kept) == 1

    async def test_a_key_that_is_in_the_file_already_is_taken(self, tmp_path: Path) -> None:
        keys, path = MemoryKeys(), tmp_path / "key"
        path.write_text("a-secret-that-an-operator-mounted-here\n")
        await AdministerKeys(keys).first("acme", KeyFile(path))
        caller = await Authenticate(keys)("Bearer a-secret-that-an-operator-mounted-here")
        assert caller.tenant == "acme"

    @pytest.mark.parametrize("secret", ["short", "has a blank in it, and is long enough", "schlüssel" * 5])
    async def test_a_key_that_can_be_guessed_is_refused(self, tmp_path: Path, secret: str) -> None:
        path = tmp_path / "key"
        path.write_text(secret)
        with pytest.raises(Invalid, match="key_file"):
            await AdministerKeys(MemoryKeys()).first("acme", KeyFile(path))

    async def test_ending_a_key_that_is_not_there_says_so(self) -> None:
        with pytest.raises(NotFound):
            await AdministerKeys(MemoryKeys()).revoke("k-none")


class TestGate:
    async def test_more_than_the_limit_is_refused_at_once_with_a_hint(self) -> None:
        gate = Gate(limit=2, per_tenant=2, retry_after=timedelta(seconds=3))
        with gate.admit("a"), gate.admit("b"):
            with pytest.raises(Overloaded) as fault, gate.admit("c"):
                pass
            assert fault.value.retry_after == timedelta(seconds=3)
        with gate.admit("c"):
            assert gate.inside == 1

    async def test_one_tenant_leaves_room_for_the_others(self) -> None:
        gate = Gate(limit=3, per_tenant=1)
        with gate.admit("a"):
            with pytest.raises(Overloaded), gate.admit("a"):
                pass
            with gate.admit("b"):
                assert gate.inside == 2
        assert gate.inside == 0

    async def test_a_place_is_given_back_when_the_work_is_cancelled(self) -> None:
        gate = Gate(limit=1, per_tenant=1)

        async def work() -> None:
            with gate.admit("a"):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.inside == 0


class TestSessionNames:
    def test_a_session_id_opens_nothing_that_was_said_to_another_reader(self) -> None:
        def name(tenant: str = "t", corpus: str = "c", user: str = "u", session: str = "s", *labels: str) -> bytes:
            question = Question(corpus=corpus, question="q", user_id=user, session_id=session)
            return session_of(Caller(tenant=tenant, key_id="k", labels=frozenset()), question, labels)

        assert name() == name()
        others = {
            name(tenant="x"),
            name(corpus="x"),
            name(user="x"),
            name(session="x"),
            name("t", "c", "u", "s", "hr"),
        }
        assert len(others) == 5
        assert name() not in others


async def test_a_new_key_needs_a_tenant_and_labels_that_can_be() -> None:
    for tenant, labels in (("no/slash", ["a"]), ("t", [""]), ("t", ["x" * 129])):
        with pytest.raises(Invalid):
            await AdministerKeys(MemoryKeys()).create(tenant, labels=labels)
