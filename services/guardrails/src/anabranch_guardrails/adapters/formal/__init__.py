"""What form a text has: its length, what patterns match in it, its citations, its schema, a canary in it."""

from anabranch_guardrails.adapters.formal.canary import Canary
from anabranch_guardrails.adapters.formal.citations import Citations
from anabranch_guardrails.adapters.formal.length import Length, estimated_tokens
from anabranch_guardrails.adapters.formal.patterns import Patterns, pattern_problem
from anabranch_guardrails.adapters.formal.schema import Schema, schema_problem

__all__ = [
    "Canary",
    "Citations",
    "Length",
    "Patterns",
    "Schema",
    "estimated_tokens",
    "pattern_problem",
    "schema_problem",
]
