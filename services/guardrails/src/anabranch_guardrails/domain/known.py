"""The checks that policies may name, where, and what each can be told.

The registry holds the same table, so that it can refuse a policy before anybody runs under it; tests/contracts keeps
the two alike. Kinds of options: `strings`, `patterns` (RE2), `examples` (a name to texts), `integer`, `number`,
`boolean`, `object`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["CHECKS", "Known"]

Known = Mapping[str, Mapping[str, object]]

CHECKS: Final[Known] = {
    "length": {
        "stages": ("input",),
        "options": {
            "characters": "integer",
            "tokens": "integer",
            "micros": "integer",
            "micros_per_1000_tokens": "number",
        },
    },
    "normalisation": {"stages": ("input", "context", "ingestion"), "options": {}},
    "canary": {"stages": ("output",), "options": {"words": "strings"}},
    "patterns": {
        "stages": ("input", "context", "output", "ingestion"),
        "options": {"patterns": "patterns", "case_sensitive": "boolean"},
    },
    "schema": {"stages": ("output",), "options": {"schema": "object"}},
    "citations": {"stages": ("output",), "options": {}},
    "markup": {"stages": ("output",), "options": {"hosts": "strings", "links": "boolean"}},
    "secrets": {"stages": ("input", "context", "output", "ingestion"), "options": {"kinds": "strings"}},
    "pii": {"stages": ("input", "context", "output"), "options": {"kinds": "strings"}},
    "language": {"stages": ("input",), "options": {"languages": "strings", "fewest_letters": "integer"}},
    "injection": {"stages": ("input", "context", "ingestion"), "options": {}},
    "extraction": {"stages": ("input",), "options": {}},
    "toxicity": {"stages": ("input", "context", "output"), "options": {}},
    "topics": {"stages": ("input",), "options": {"allowed": "examples", "denied": "examples"}},
    "intent": {"stages": ("input",), "options": {"supported": "examples", "unsupported": "examples"}},
    "relevance": {"stages": ("output",), "options": {}},
    "groundedness": {"stages": ("output",), "options": {}},
    "moderation": {"stages": ("input", "output"), "options": {}},
}
"""In the order they run: cheap first, and what is asked elsewhere last."""
