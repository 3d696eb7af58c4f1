"""The checks that policies may name, where, and what each can be told.

Guardrails holds the same table and runs them; here it lets a policy be refused before anybody runs under it, and
tests/contracts keeps the two alike. Kinds of options: `strings`, `patterns` (RE2), `examples` (a name to texts),
`integer`, `number`, `boolean`, `object`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["CHECKS", "Known"]

Known = Mapping[str, Mapping[str, object]]

CHECKS: Final[Known] = {
    "length": {"stages": ("input",), "options": {"characters": "integer", "tokens": "integer"}},
    "normalisation": {"stages": ("input",), "options": {}},
    "canary": {"stages": ("output",), "options": {}},
    "patterns": {"stages": ("input", "context", "output", "ingestion"), "options": {"patterns": "patterns"}},
    "schema": {"stages": ("output",), "options": {"schema": "object"}},
    "citations": {"stages": ("output",), "options": {}},
    "markup": {"stages": ("output",), "options": {"hosts": "strings"}},
    "secrets": {"stages": ("input", "context", "output", "ingestion"), "options": {"kinds": "strings"}},
    "pii": {"stages": ("input", "context", "output"), "options": {"kinds": "strings"}},
    "language": {"stages": ("input",), "options": {"languages": "strings"}},
    "injection": {"stages": ("input", "context", "ingestion"), "options": {}},
    "extraction": {"stages": ("input",), "options": {}},
    "toxicity": {"stages": ("input", "context", "output"), "options": {}},
    "topics": {"stages": ("input",), "options": {"allowed": "examples", "denied": "examples"}},
    "intent": {"stages": ("input",), "options": {"supported": "examples"}},
    "relevance": {"stages": ("output",), "options": {}},
    "groundedness": {"stages": ("output",), "options": {}},
    "moderation": {"stages": ("input", "output"), "options": {"categories": "strings"}},
}
"""In the order they run: cheap first, and what is asked elsewhere last."""
