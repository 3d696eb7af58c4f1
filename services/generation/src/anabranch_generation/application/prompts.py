"""The registry's prompts, as this replica last heard of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from anabranch_faults import Invalid
from anabranch_generation.domain import Request
from anabranch_prompts import PromptTemplate, reference

FIELD = "settings.prompt_ref"


@dataclass(frozen=True, slots=True)
class _Meaning:
    version: str
    revision: int


@dataclass(slots=True)
class PromptTable:
    """Versions and labels. Nothing is ever taken out: what was once known goes on, whatever becomes of the registry."""

    _versions: dict[tuple[str, str], PromptTemplate] = field(default_factory=dict)
    _labels: dict[tuple[str, str], _Meaning] = field(default_factory=dict)
    _good: dict[tuple[str, str], PromptTemplate] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many versions are known."""
        return len(self._versions)

    def put(self, prompt: PromptTemplate) -> None:
        """Takes a version in."""
        self._versions[prompt.name, prompt.prompt_version] = prompt
        for (name, label), meaning in self._labels.items():
            if (name, meaning.version) == (prompt.name, prompt.prompt_version):
                self._good[name, label] = prompt

    def move(self, *, name: str, label: str, version: str, revision: int) -> bool:
        """Lets a label mean a version; False for a move that is older than what is known.

        A version that is not known yet does not hold until it is: the label goes on meaning what it did.
        """
        known = self._labels.get((name, label))
        if known is not None and revision < known.revision:
            return False
        self._labels[name, label] = _Meaning(version, revision)
        prompt = self._versions.get((name, version))
        if prompt is not None:
            self._good[name, label] = prompt
        return True

    def resolve(self, text: str) -> PromptTemplate:
        """The prompt of `name@label` or `name@p-...`. Raises Invalid when it was never heard of."""
        wanted = reference(text, field=FIELD)
        if wanted.label:
            found = self._good.get((wanted.name, wanted.label))
        else:
            found = self._versions.get((wanted.name, wanted.version))
        if found is None:
            raise Invalid(
                f"is {text!r}, which the registry has not told of: create the prompt, or set the label",
                field=FIELD,
                reason="UNKNOWN_PROMPT",
            )
        return found

    def settle(self, request: Request, *, prompted: bool) -> Request:
        """The request with its prompt, and what the prompt fixes where the settings say nothing. Raises Invalid."""
        settings = request.settings
        if not settings.prompt_ref:
            return request
        prompt = self.resolve(settings.prompt_ref)
        if not prompted:
            return request
        return request.with_prompt(prompt)
