"""Keys come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from anabranch_faults import Invalid, NotFound
from anabranch_gateway.application.ports import Keys
from anabranch_gateway.domain.keys import ANY_LABEL, Key, key_from, new_secret

SHORTEST: Final = 32


class SecretFile(Protocol):
    """Where the first key is handed over."""

    async def read(self) -> str:
        """The key in it; empty when there is none."""
        ...

    async def write(self, secret: str) -> None:
        """Puts the key there, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new key: the only moment at which its secret is known."""

    key: Key
    secret: str


@dataclass(frozen=True, slots=True)
class AdministerKeys:
    """What an operator does with keys."""

    keys: Keys

    async def create(self, tenant: str, *, labels: Sequence[str] = (ANY_LABEL,), note: str = "") -> Made:
        """Makes a key. Raises Invalid for a tenant or labels that cannot be."""
        secret = new_secret()
        key = key_from(secret, tenant=tenant, labels=labels, note=note, created_at=datetime.now(tz=UTC))
        await self.keys.add(key)
        return Made(key=key, secret=secret)

    async def revoke(self, key_id: str) -> None:
        """Ends a key, within the time that gateways remember it. Raises NotFound."""
        if not await self.keys.revoke(key_id, at=datetime.now(tz=UTC)):
            raise NotFound(f"there is no key {key_id} that holds", field="key_id")

    async def first(self, tenant: str, file: SecretFile) -> Key | None:
        """Makes a tenant's first key when it has none, and hands it over in `file`; None when it has one.

        A key that is in the file already is taken as the tenant's: it was put there by an operator, or by a start
        that was cut short. Callers must hold a lock against other replicas. Raises Invalid for one that can be guessed.
        """
        if await self.keys.of_tenant(tenant):
            return None
        secret = await file.read()
        if secret and (len(secret) < SHORTEST or not secret.isascii() or not secret.isprintable() or " " in secret):
            raise Invalid(f"holds no key of {SHORTEST} or more visible ASCII characters", field="key_file")
        if not secret:
            secret = new_secret()
            await file.write(secret)  # before the database: a key nobody was handed would lock everyone out
        key = key_from(
            secret, tenant=tenant, labels=(ANY_LABEL,), note="made at the first start", created_at=datetime.now(tz=UTC)
        )
        await self.keys.add(key)
        return key
