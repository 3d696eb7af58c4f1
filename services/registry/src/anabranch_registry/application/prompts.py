"""Prompts: versions that never change, and labels that move through a gate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from anabranch_faults import Invalid, NotFound
from anabranch_prompts import (
    PromptTemplate,
    TestResult,
    check,
    content_address,
    declared,
    reference,
    required,
    run_tests,
)
from anabranch_prompts.values import LABEL, NAME
from anabranch_registry.application import pages
from anabranch_registry.application.audit import noted, swap
from anabranch_registry.application.ports import Books, Clock, Ledger, utc_now
from anabranch_registry.domain import checked_change
from anabranch_registry.domain.faults import GateClosed
from anabranch_registry.domain.notes import Link
from anabranch_registry.domain.prompts import PromptLabel, PromptMove, StoredPrompt, move_key
from anabranch_registry.domain.routing import Change

__all__ = ["Prompts"]

_ALL = 100_000


@dataclass(frozen=True, slots=True)
class Prompts:
    """Keeps prompts, and moves their labels."""

    ledger: Ledger
    now: Clock = utc_now

    async def create(self, given: PromptTemplate, *, author: str, reason: str) -> PromptTemplate:
        """Return the prompt as kept: the same for the same content.

        Raises Invalid with everything that is wrong: names, templates, the schema, includes that are missing, tests
        that fail.
        """
        change = checked_change(author=author, reason=reason, at=self.now())
        async with self.ledger.reading() as books:
            included, faults = await _included(books, given)
        prompt = replace(given, prompt_version="", included=included)
        problems = await asyncio.to_thread(check, prompt)
        faults += [f"{one.field}: {one.problem}" if one.field else one.problem for one in problems]
        if not faults:
            tried = await asyncio.to_thread(run_tests, prompt, prompt.tests)
            faults = [f"test {one.name!r}: {one.problem}" for one in tried if not one.passed]
        if faults:
            raise Invalid("; ".join(faults), field="prompt", reason="NOT_A_PROMPT")
        prompt = replace(prompt, prompt_version=content_address(prompt))
        if given.prompt_version not in ("", prompt.prompt_version):
            raise Invalid(
                f"is {given.prompt_version!r}, but the content makes it {prompt.prompt_version}; leave it out",
                field="prompt.prompt_version",
                reason="VERSION_MISMATCH",
            )
        return await self._keep(StoredPrompt(template=prompt, change=change))

    async def _keep(self, stored: StoredPrompt) -> PromptTemplate:
        async with self.ledger.writing() as books:
            kept = await books.find(StoredPrompt, stored.key)
            if kept is not None:
                return kept.template
            await books.put(stored)
            await books.tell(stored)
            await books.note([noted("prompt", stored.key, "created", "", stored.change)])
            pieces = sorted(set(stored.template.includes.values()))
            await books.link(Link(source=one, target=stored.key, how="included") for one in pieces)
        return stored.template

    async def get(self, text: str) -> PromptTemplate:
        """Return a version, or the one that a label means now. Raises Invalid, NotFound."""
        async with self.ledger.reading() as books:
            return (await _meant(books, text)).template

    async def list(
        self, *, name: str = "", page_size: int = 0, page_token: str = ""
    ) -> tuple[Sequence[PromptTemplate], str]:
        """Return a page, newest first: of one name, or of all. Raises Invalid."""
        count, before = pages.size(page_size), pages.number("prompts", page_token)
        async with self.ledger.reading() as books:
            page = await books.page(StoredPrompt, scope=name, count=count, before=before)
        return [one.template for one in page.found], pages.token("prompts", page.following)

    async def test(self, text: str) -> Sequence[TestResult]:
        """Render the version's own cases. Raises Invalid, NotFound."""
        prompt = await self.get(text)
        return await asyncio.to_thread(run_tests, prompt, prompt.tests)

    async def move(
        self, name: str, label: str, version: str, *, expected_revision: int, author: str, reason: str
    ) -> PromptLabel:
        """Return the label as it now is.

        Raises Invalid, NotFound, Conflict when somebody was faster, GateClosed.
        """
        change = checked_change(author=author, reason=reason, at=self.now())
        key = _label_key(name, label)
        async with self.ledger.reading() as books:
            before = await books.find(PromptLabel, key)
            swap(f"label {key}", before.revision if before else 0, expected_revision)
            new = (await _version(books, name, version)).template
            present = (await _version(books, name, before.prompt_version)).template if before else None
        # Rendering takes its time: not while the ledger is held. The swap below sees to it that nothing moved.
        await self._gate(new, present)
        async with self.ledger.writing() as books:
            before = await books.find(PromptLabel, key)
            swap(f"label {key}", before.revision if before else 0, expected_revision)
            return await _moved(books, key, version, expected_revision + 1, change)

    async def _gate(self, new: PromptTemplate, present: PromptTemplate | None) -> None:
        faults: list[str] = []
        cases = [("", one) for one in new.tests]
        if present is not None and present.prompt_version != new.prompt_version:
            faults = _asks_for_more(new, present)
            cases += [(f" of {present.prompt_version}", one) for one in present.tests if one not in new.tests]
        tried = await asyncio.to_thread(run_tests, new, [one for _, one in cases])
        faults += [
            f"test {one.name!r}{of}: {one.problem}" for (of, _), one in zip(cases, tried, strict=True) if not one.passed
        ]
        if faults:
            raise GateClosed("; ".join(faults), field="prompt_version", reason="GATE_CLOSED")

    async def rollback(self, name: str, label: str, *, to_revision: int, author: str, reason: str) -> PromptLabel:
        """Return the label, meaning again what it meant at `to_revision`; 0: what it meant before the present.

        Raises Invalid, NotFound when there is no such revision, or no way back.
        """
        change = checked_change(author=author, reason=reason, at=self.now())
        key = _label_key(name, label)
        async with self.ledger.writing() as books:
            present = await books.find(PromptLabel, key)
            if present is None:
                raise NotFound(f"there is no label {key}", field="label")
            version = await _earlier(books, present, to_revision)
            return await _moved(books, key, version, present.revision + 1, change)

    async def labels(self, name: str = "") -> Sequence[PromptLabel]:
        """Return the labels of one name, or of all, by prompt and label."""
        async with self.ledger.reading() as books:
            page = await books.page(PromptLabel, scope=name, count=_ALL)
        return sorted(page.found, key=lambda one: (one.name, one.label))


async def _included(books: Books, prompt: PromptTemplate) -> tuple[dict[str, str], list[str]]:
    """The pieces by alias, those that the pieces themselves include among them, and what cannot be put in."""
    texts: dict[str, str] = {}
    origins: dict[str, str] = {}
    faults: list[str] = []
    for alias, target in sorted(prompt.includes.items()):
        path = f"includes.{alias[:64]}"
        try:
            wanted = reference(target)
        except Invalid:
            continue  # `check` tells of it
        if not wanted.version:
            faults.append(f"{path}: {target} is a label; a prompt includes versions only, which never move")
            continue
        piece = await books.find(StoredPrompt, target)
        if piece is None:
            faults.append(f"{path}: there is no prompt {target}")
            continue
        template = piece.template
        for name, text in {**template.included, alias: template.template or template.system}.items():
            if texts.setdefault(name, text) != text:
                faults.append(f"{path}: {target} and {origins[name]} mean different pieces by {name!r}: rename one")
            origins.setdefault(name, target)
        if alias in template.included and template.included[alias] != texts[alias]:
            faults.append(f"{path}: {target} itself includes another piece as {alias!r}: a cycle")
    return texts, faults


async def _version(books: Books, name: str, version: str) -> StoredPrompt:
    found = await books.find(StoredPrompt, f"{name}@{version}")
    if found is None:
        raise NotFound(f"there is no prompt {name}@{version}", field="prompt_version")
    return found


async def _meant(books: Books, text: str) -> StoredPrompt:
    wanted = reference(text)
    version = wanted.version
    if wanted.label:
        label = await books.find(PromptLabel, f"{wanted.name}@{wanted.label}")
        if label is None:
            raise NotFound(f"there is no label {text}", field="prompt")
        version = label.prompt_version
    found = await books.find(StoredPrompt, f"{wanted.name}@{version}")
    if found is None:
        raise NotFound(f"there is no prompt {text}", field="prompt")
    return found


def _label_key(name: str, label: str) -> str:
    if not NAME.fullmatch(name):
        raise Invalid(f"{name[:200]!r} is not [a-z0-9][a-z0-9.-]{{0,127}}", field="name", reason="NOT_A_NAME")
    if not LABEL.fullmatch(label):
        raise Invalid(f"{label[:200]!r} is not [a-z0-9-]{{1,64}}, or a version", field="label", reason="NOT_A_NAME")
    return f"{name}@{label}"


def _asks_for_more(new: PromptTemplate, present: PromptTemplate) -> list[str]:
    """Apps give what the present version asks for; a variable that is new and has no default would be missing."""
    had = declared(present.variables)
    return [
        f"variables.{name}: is asked for, but {present.prompt_version} does not have it"
        for name in sorted(required(new.variables))
        if name not in had
    ]


async def _earlier(books: Books, present: PromptLabel, to_revision: int) -> str:
    if to_revision:
        move = await books.find(PromptMove, move_key(present.name, present.label, to_revision))
        if move is None:
            raise NotFound(f"{present.key} has no revision {to_revision}", field="to_revision")
        return move.prompt_version
    for revision in range(present.revision - 1, 0, -1):
        move = await books.find(PromptMove, move_key(present.name, present.label, revision))
        if move is not None and move.prompt_version != present.prompt_version:
            return move.prompt_version
    raise NotFound(f"{present.key} never meant another version", field="label", reason="NO_WAY_BACK")


async def _moved(books: Books, key: str, version: str, revision: int, change: Change) -> PromptLabel:
    name, _, label = key.partition("@")
    moved = PromptLabel(name=name, label=label, prompt_version=version, revision=revision, change=change)
    await books.put(moved)
    await books.put(PromptMove(name=name, label=label, prompt_version=version, revision=revision))
    await books.tell(moved)
    await books.note([noted("prompt-label", moved.key, f"moved to {version}", "", change)])
    await books.link([Link(source=f"{name}@{version}", target=moved.key, how="labelled")])
    return moved
