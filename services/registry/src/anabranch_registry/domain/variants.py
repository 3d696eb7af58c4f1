"""A variant: an immutable bundle, named by its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from anabranch_faults import Invalid
from anabranch_registry.domain.checks import check_identifier, check_length
from anabranch_registry.domain.settings import Cascade, GenerationSettings, Prompt, RetrievalSettings

__all__ = ["Variant", "is_variant_id"]

_ID: Final = re.compile(r"v-[0-9a-f]{12}")
_MAX_DESCRIPTION: Final = 1_000


def is_variant_id(text: str) -> bool:
    """Could this be a variant's id?"""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The unit of routing. Everything but `description` makes its id."""

    description: str = ""
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    policy_version: str = ""

    def completed(self, *, path: str = "variant", claimed_id: str = "") -> Variant:
        """Return the bundle as it is stored: checked, and with its prompt's version.

        Raises Invalid or TooLarge with the field at fault, also when it came under an id that is not its own.
        """
        check_length(self.description, f"{path}.description", _MAX_DESCRIPTION)
        self.retrieval.check(f"{path}.retrieval")
        self.generation.check(f"{path}.generation")
        check_identifier(self.policy_version, f"{path}.policy_version")
        prompt = self.generation.prompt.completed(f"{path}.generation.prompt")
        completed = replace(self, generation=replace(self.generation, prompt=prompt))
        if claimed_id not in ("", completed.variant_id):
            raise Invalid(
                f"is {claimed_id!r}, but the content makes it {completed.variant_id}; leave it out",
                field=f"{path}.variant_id",
                reason="ID_MISMATCH",
            )
        return completed

    @property
    def variant_id(self) -> str:
        """`v-` and the first 12 hex digits of the canonical form's sha256."""
        return f"v-{hashlib.sha256(self.canonical().encode()).hexdigest()[:12]}"

    def canonical(self) -> str:
        """Return all but the description as JSON: keys sorted, no spaces, defaults left out, whole numbers as such.

        So a field that is added later changes no id while it has its default.
        """
        content = _trimmed({key: value for key, value in asdict(self).items() if key != "description"})
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_canonical(cls, text: str, *, description: str) -> Variant:
        """Return the variant whose canonical form this is."""
        content: dict[str, Any] = json.loads(text)
        generation: dict[str, Any] = dict(content.get("generation", {}))
        generation["prompt"] = Prompt(**generation.get("prompt", {}))
        generation["stop"] = tuple(generation.get("stop", ()))
        if "cascade" in generation:
            generation["cascade"] = Cascade(**_floats(Cascade, generation["cascade"]))
        return cls(
            description=description,
            retrieval=RetrievalSettings(**_floats(RetrievalSettings, content.get("retrieval", {}))),
            generation=GenerationSettings(**_floats(GenerationSettings, generation)),
            policy_version=content.get("policy_version", ""),
        )


def _trimmed(value: Any) -> Any:
    if isinstance(value, Mapping):
        trimmed = {key: _trimmed(inner) for key, inner in value.items()}
        return {key: inner for key, inner in trimmed.items() if inner not in (0, "", False, None, [], {})}
    if isinstance(value, (list, tuple)):
        return [_trimmed(inner) for inner in value]
    # 1.0 and 1 are one number, as they are one on the wire; so are 0.0 and -0.0.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _floats(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with whole numbers made floats again, where the field is one."""
    found = dict(content)
    for one in fields(kind):
        if one.type == "float" and one.name in found:
            found[one.name] = float(found[one.name])
    return found
