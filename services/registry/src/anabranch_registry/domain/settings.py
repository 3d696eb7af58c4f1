"""What a variant settles: how is searched, and how is answered. Zero and the empty string mean "the default"."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from anabranch_faults import Invalid, TooLarge
from anabranch_prompts import reference
from anabranch_registry.domain.checks import check_identifier, check_length, check_number

__all__ = ["BACKENDS", "Cascade", "GenerationSettings", "Prompt", "RetrievalSettings"]

BACKENDS: Final = ("extractive", "openai", "tensorrt_llm")

_MAX_TOP_K: Final = 100
_MAX_TOKENS: Final = 32_768
_MAX_CONTEXT_TOKENS: Final = 1_000_000
_MAX_TEMPERATURE: Final = 2
_MAX_SENTENCES: Final = 20
_MAX_STOPS: Final = 16
_MAX_STOP: Final = 64
_MAX_SYSTEM: Final = 16_384
_MAX_TEMPLATE: Final = 32_768
_SEEDS: Final = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSettings:
    """How passages are found."""

    alpha: float = 0.0
    top_k: int = 0
    embedding_version: str = ""
    reranker_version: str = ""
    keep_duplicates: bool = False

    def check(self, path: str) -> None:
        """Raise Invalid for the first field that is out of range; `path` is what its name begins with."""
        check_number(self.alpha, f"{path}.alpha", 0, 1)
        check_number(self.top_k, f"{path}.top_k", 1, _MAX_TOP_K)
        check_identifier(self.embedding_version, f"{path}.embedding_version")
        check_identifier(self.reranker_version, f"{path}.reranker_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a language model is told; `version` follows from the rest."""

    system: str = ""
    template: str = ""
    version: str = ""

    def completed(self, path: str) -> Prompt:
        """Return the prompt with its version. Raises Invalid when it came with another, or is too long."""
        check_length(self.system, f"{path}.system", _MAX_SYSTEM)
        check_length(self.template, f"{path}.template", _MAX_TEMPLATE)
        version = self._version() if self.system or self.template else ""
        if self.version not in ("", version):
            raise Invalid(
                f"is {self.version!r}, but system and template make it {version!r}; leave it out",
                field=f"{path}.version",
                reason="VERSION_MISMATCH",
            )
        return Prompt(system=self.system, template=self.template, version=version)

    def _version(self) -> str:
        # Lengths keep the border between the two from moving unseen.
        content = f"{len(self.system)}\n{self.system}{self.template}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """A cheaper model that is asked first."""

    backend: str = ""
    model: str = ""
    skip_above: float = 0.0
    escalate_below: float = 0.0
    explore: float = 0.0

    def check(self, path: str) -> None:
        """Raise Invalid or TooLarge for the first field that is wrong."""
        if not self.backend and not self.model:
            raise Invalid("names no model that is asked first", field=f"{path}.model", reason="MISSING")
        _check_backend(self.backend, f"{path}.backend")
        check_identifier(self.model, f"{path}.model", 256)
        check_number(self.skip_above, f"{path}.skip_above", 0, 1)
        check_number(self.escalate_below, f"{path}.escalate_below", 0, 1)
        check_number(self.explore, f"{path}.explore", 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How passages become an answer."""

    backend: str = ""
    model: str = ""
    adapter: str = ""
    max_tokens: int = 0
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    context_tokens: int = 0
    max_sentences: int = 0
    abstain_below: float = 0.0
    prompt: Prompt = field(default_factory=Prompt)
    prompt_ref: str = ""
    cascade: Cascade | None = None

    def check(self, path: str) -> None:
        """Raise Invalid or TooLarge for the first field that is wrong; `path` is what its name begins with."""
        _check_backend(self.backend, f"{path}.backend")
        check_identifier(self.model, f"{path}.model", 256)
        check_identifier(self.adapter, f"{path}.adapter", 256)
        check_number(self.max_tokens, f"{path}.max_tokens", 0, _MAX_TOKENS)
        check_number(self.temperature, f"{path}.temperature", 0, _MAX_TEMPERATURE)
        check_number(self.seed, f"{path}.seed", 0, _SEEDS - 1)
        check_number(self.context_tokens, f"{path}.context_tokens", 0, _MAX_CONTEXT_TOKENS)
        check_number(self.max_sentences, f"{path}.max_sentences", 0, _MAX_SENTENCES)
        check_number(self.abstain_below, f"{path}.abstain_below", 0, 1)
        if len(self.stop) > _MAX_STOPS:
            raise TooLarge(f"has {len(self.stop)} entries; the limit is {_MAX_STOPS}", field=f"{path}.stop")
        for index, stop in enumerate(self.stop):
            if not stop:
                raise Invalid("is empty", field=f"{path}.stop[{index}]", reason="MISSING")
            check_length(stop, f"{path}.stop[{index}]", _MAX_STOP)
        if self.prompt_ref:
            reference(self.prompt_ref, field=f"{path}.prompt_ref")
        if self.cascade is not None:
            self.cascade.check(f"{path}.cascade")


def _check_backend(backend: str, path: str) -> None:
    if backend and backend not in BACKENDS:
        raise Invalid(
            f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}", field=path, reason="UNKNOWN_BACKEND"
        )
