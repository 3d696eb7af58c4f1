"""The checks that read texts by rules, by name; each is made with what the policy tells it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from anabranch_guardrails.adapters import grounded, language, markup, personal, secrets, topics
from anabranch_guardrails.adapters.formal import canary, citations, length, patterns, schema
from anabranch_guardrails.adapters.options import Factory

__all__ = ["FACTORIES"]

FACTORIES: Final[Mapping[str, Factory]] = MappingProxyType(
    {
        "length": length.configured,
        "patterns": patterns.configured,
        "language": language.configured,
        "secrets": secrets.configured,
        "pii": personal.configured,
        "topics": topics.topics_configured,
        "intent": topics.intent_configured,
        "canary": canary.configured,
        "schema": schema.configured,
        "citations": citations.configured,
        "markup": markup.configured,
        "relevance": topics.relevance_configured,
        "groundedness": grounded.configured,
    }
)
"""Raise Invalid that names `options.<key>` for what is wrong. Cheap ones first."""
