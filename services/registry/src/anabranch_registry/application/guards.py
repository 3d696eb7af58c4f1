"""Guardrail policies and where they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anabranch_faults import Invalid, NotFound, TooLarge
from anabranch_registry.application import pages
from anabranch_registry.application.audit import noted, swap
from anabranch_registry.application.ports import Books, Clock, Ledger, utc_now
from anabranch_registry.domain import checked_change, checked_scope
from anabranch_registry.domain.content import plain
from anabranch_registry.domain.guards import Attachment, GuardPolicy, Pattern, faults_of_guards, inherited
from anabranch_registry.domain.notes import Link

__all__ = ["GuardPolicies"]

_MAX_RULES = 400
_MAX_ALLOW = 4_000


@dataclass(frozen=True, slots=True)
class GuardPolicies:
    """Keeps policies, and attaches them to scopes. `pattern` looks at RE2 patterns."""

    ledger: Ledger
    pattern: Pattern
    now: Clock = utc_now

    async def create(
        self, given: Mapping[str, Any], *, faults: Sequence[str] = (), author: str, reason: str
    ) -> GuardPolicy:
        """Return the policy as kept, with all that it inherits: the same for the same content.

        `faults` are what was found wrong before; all are told together. Raises Invalid, TooLarge, and NotFound when it
        inherits from a policy that does not exist.
        """
        change = checked_change(author=author, reason=reason, at=self.now())
        given = plain(given)
        named = {_path(one) for one in faults}
        wrong = [*faults, *(one for one in faults_of_guards(given, self.pattern) if _path(one) not in named)]
        async with self.ledger.writing() as books:
            parent = await self._parent(books, given.get("inherits", ""), wrong)
            document, unheard = inherited(given, parent.document if parent else None)
            # Without its parent, nothing can be said of what is taken off.
            _refuse(wrong if given.get("inherits") and parent is None else [*wrong, *unheard])
            _bounded(document)
            claimed = document.pop("policy_version", "")
            policy = GuardPolicy.of(document, change)
            if claimed not in ("", policy.policy_version):
                raise Invalid(
                    f"is {claimed!r}, but the content makes it {policy.policy_version}; leave it out",
                    field="policy_version",
                    reason="VERSION_MISMATCH",
                )
            kept = await books.find(GuardPolicy, policy.policy_version)
            if kept is not None:
                return kept
            await books.put(policy)
            await books.tell(policy)
            await books.note([noted("policy", policy.policy_version, "created", "", change)])
            if parent is not None:
                link = Link(source=parent.policy_version, target=policy.policy_version, how="inherited")
                await books.link([link])
        return policy

    @staticmethod
    async def _parent(books: Books, version: str, faults: list[str]) -> GuardPolicy | None:
        if not version:
            return None
        parent = await books.find(GuardPolicy, version)
        if parent is None:
            faults.append(f"inherits: there is no policy {version!r}")
        return parent

    async def get(self, version: str) -> GuardPolicy:
        """Return one. Raises NotFound."""
        async with self.ledger.reading() as books:
            found = await books.find(GuardPolicy, version)
        if found is None:
            raise NotFound(f"there is no policy {version!r}", field="policy_version")
        return found

    async def list(self, *, page_size: int = 0, page_token: str = "") -> tuple[Sequence[GuardPolicy], str]:
        """Return a page, newest first. Raises Invalid."""
        count, before = pages.size(page_size), pages.number("policies", page_token)
        async with self.ledger.reading() as books:
            page = await books.page(GuardPolicy, count=count, before=before)
        return page.found, pages.token("policies", page.following)

    async def attach(self, scope: str, version: str, *, expected_revision: int, author: str, reason: str) -> Attachment:
        """Return the attachment as it now is; an empty version detaches.

        Raises Invalid, NotFound, Conflict when somebody was faster.
        """
        change = checked_change(author=author, reason=reason, at=self.now())
        checked_scope(scope)
        async with self.ledger.writing() as books:
            before = await books.find(Attachment, scope)
            swap(f"the guardrail policy of {scope}", before.revision if before else 0, expected_revision)
            if version and await books.find(GuardPolicy, version) is None:
                raise NotFound(f"there is no policy {version!r}", field="policy_version", reason="UNKNOWN_POLICY")
            previous = ""
            if before is not None:
                moved = before.policy_version != version
                previous = before.policy_version if moved else before.previous_version
            attachment = Attachment(
                scope=scope,
                policy_version=version,
                previous_version=previous,
                revision=expected_revision + 1,
                change=change,
            )
            await books.put(attachment)
            await books.tell(attachment)
            what = f"attached {version}" if version else "detached"
            await books.note([noted("attachment", scope, what, scope, change)])
        return attachment

    async def attachment(self, scope: str) -> Attachment:
        """Return a scope's own, also one that was detached: its revision is needed to attach again.

        Raises Invalid, NotFound when it never had one.
        """
        checked_scope(scope)
        async with self.ledger.reading() as books:
            found = await books.find(Attachment, scope)
        if found is None:
            raise NotFound(f"{scope} has no guardrail policy of its own", field="scope")
        return found


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise Invalid("; ".join(faults), field="yaml", reason="NOT_A_POLICY")


def _path(fault: str) -> str:
    return fault.partition(":")[0]


def _bounded(document: Mapping[str, Any]) -> None:
    for name, most in (("rules", _MAX_RULES), ("allow", _MAX_ALLOW)):
        if (count := len(document.get(name, ()))) > most:
            raise TooLarge(f"has {count:,} entries with what is inherited; the limit is {most:,}", field=name)
