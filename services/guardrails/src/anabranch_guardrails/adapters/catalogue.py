"""The checks of this build, each with its threshold and where it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final

from anabranch_faults import Invalid
from anabranch_guardrails.adapters import grounded, language, markup, personal, secrets, topics
from anabranch_guardrails.adapters.anonymising import VaultAnonymiser
from anabranch_guardrails.adapters.formal import canary, citations, length, patterns, schema
from anabranch_guardrails.adapters.heads import Extraction, Injection, Toxicity
from anabranch_guardrails.adapters.normal import Normalisation
from anabranch_guardrails.application.catalogue import WINDOW, Catalogue, Kind
from anabranch_guardrails.application.ports import Check, RemoteCheck
from anabranch_guardrails.domain import Stage
from anabranch_guardrails.domain.known import CHECKS

__all__ = ["catalogue", "stages_of"]

_SURE: Final = 0.5
"""Threshold of what either is there or is not: the score says which form it has, all of which count."""

_OWN: Final = timedelta(seconds=2)
_LONG: Final = 1_000_000
"""An operator's pattern may be about the text's beginning or end, which windows have their own of."""


def catalogue(
    moderation: RemoteCheck | None = None, *, model: Check | None = None, moderation_threshold: float = _SURE
) -> Catalogue:
    """All checks; with `moderation` (elsewhere) or `model` (here) the operator's own model is one of them."""
    kinds = [*_by_form(), *_by_head()]
    own = moderation or model
    if own is not None:
        kinds.append(
            Kind(
                name="moderation",
                version=own.version,
                stages=stages_of("moderation"),
                threshold=moderation_threshold,
                description="The operator's own model.",
                remote=moderation,
                make=None if model is None else _without_options(model),
                timeout=_OWN,
            )
        )
    return Catalogue(kinds, anonymiser=VaultAnonymiser)


def stages_of(name: str) -> frozenset[Stage]:
    """Where policies may name it."""
    stages = CHECKS[name]["stages"]
    return frozenset(Stage[str(stage).upper()] for stage in stages) if isinstance(stages, tuple) else frozenset()


def _by_form() -> Iterable[Kind]:
    for name, configured, version, threshold, description, also in (
        (
            "length",
            length.configured,
            length.VERSION,
            _SURE,
            "Texts that are too long, or would cost too much.",
            "whole",
        ),
        ("canary", canary.configured, canary.VERSION, _SURE, "System prompts that show up in an answer.", ""),
        ("patterns", patterns.configured, patterns.VERSION, _SURE, "What the operator's RE2 patterns match.", ""),
        ("schema", schema.configured, schema.VERSION, _SURE, "Answers that are not the JSON asked for.", "whole"),
        (
            "citations",
            citations.configured,
            citations.VERSION,
            _SURE,
            "Citations of passages that there are not, or that do not say so.",
            "spanned",
        ),
        ("markup", markup.configured, markup.VERSION, _SURE, "Script, and images and links that carry data out.", ""),
        ("secrets", secrets.configured, secrets.VERSION, _SURE, "Keys, tokens and passwords.", ""),
        ("pii", personal.configured, personal.VERSION, _SURE, "Personal data: addresses, numbers, accounts.", ""),
        ("language", language.configured, language.VERSION, _SURE, "Languages that are not served.", "whole"),
        (
            "topics",
            topics.topics_configured,
            topics.VERSION,
            _SURE,
            "Topics that are denied, or not among the allowed.",
            "whole",
        ),
        ("intent", topics.intent_configured, topics.VERSION, _SURE, "Requests of a kind that is not served.", "whole"),
        ("relevance", topics.relevance_configured, topics.VERSION, _SURE, "Answers beside the question.", "whole"),
        (
            "groundedness",
            grounded.configured,
            grounded.configured({}).version,
            _SURE,
            "Answers that the passages do not bear out: 1 less the groundedness.",
            "whole",
        ),
    ):
        yield Kind(
            name=name,
            version=version,
            stages=stages_of(name),
            threshold=threshold,
            description=description,
            make=configured,
            whole=also in ("whole", "spanned"),
            spanned=also == "spanned",
            window=_LONG if name == "patterns" else WINDOW,
        )


def _by_head() -> Iterable[Kind]:
    checks: tuple[Normalisation | Injection | Extraction | Toxicity, ...] = (
        Normalisation(),
        Injection(),
        Extraction(),
        Toxicity(),
    )
    for check in checks:
        yield Kind(
            name=check.name,
            version=check.version,
            stages=check.stages & stages_of(check.name),
            threshold=check.threshold,
            description=check.description,
            make=_without_options(check),
            asked=check.name == "injection",
        )


def _without_options(check: Check) -> Callable[[Mapping[str, object]], Check]:
    def make(options: Mapping[str, object]) -> Check:
        for option in options:
            raise Invalid("is not an option here; there are none", field=f"options.{option}", reason="BAD_OPTION")
        return check

    return make
