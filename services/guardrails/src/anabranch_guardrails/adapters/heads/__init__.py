"""Small heads: linear over hashed n-grams, trained by `make guard-models`."""

from anabranch_guardrails.adapters.heads.injection import Injection, warm
from anabranch_guardrails.adapters.heads.single import Extraction, Toxicity

__all__ = ["Extraction", "Injection", "Toxicity", "warm"]
