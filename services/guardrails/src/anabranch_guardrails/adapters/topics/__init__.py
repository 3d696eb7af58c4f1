"""What a text speaks of and asks for, by example."""

from anabranch_guardrails.adapters.topics.check import (
    VERSION,
    Intent,
    Relevance,
    Topics,
    intent_configured,
    relevance_configured,
    topics_configured,
)

__all__ = [
    "VERSION",
    "Intent",
    "Relevance",
    "Topics",
    "intent_configured",
    "relevance_configured",
    "topics_configured",
]
