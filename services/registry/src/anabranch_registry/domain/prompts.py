"""Prompts in the registry: versions that never change, and labels that move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from anabranch_prompts import PromptTemplate
from anabranch_registry.domain.routing import Change

__all__ = ["PromptLabel", "PromptMove", "StoredPrompt", "move_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrompt:
    """A version, immutable."""

    noun: ClassVar[str] = "prompt"

    template: PromptTemplate
    change: Change

    @property
    def key(self) -> str:
        """`name@p-...`."""
        return f"{self.template.name}@{self.template.prompt_version}"

    @property
    def listed_under(self) -> str:
        """Its name."""
        return self.template.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLabel:
    """What a label of a prompt means now."""

    noun: ClassVar[str] = "prompt-label"

    name: str
    label: str
    prompt_version: str
    revision: int
    change: Change

    @property
    def key(self) -> str:
        """`name@label`."""
        return f"{self.name}@{self.label}"

    @property
    def listed_under(self) -> str:
        """The prompt's name."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMove:
    """What a label meant at a revision: the way back."""

    noun: ClassVar[str] = "prompt-move"

    name: str
    label: str
    prompt_version: str
    revision: int

    @property
    def key(self) -> str:
        """`name@label@revision`."""
        return move_key(self.name, self.label, self.revision)

    @property
    def listed_under(self) -> str:
        """The label."""
        return f"{self.name}@{self.label}"


def move_key(name: str, label: str, revision: int) -> str:
    """Return where a label's revision is kept."""
    return f"{name}@{label}@{revision}"
