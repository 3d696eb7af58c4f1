"""Personal data: found by form, check digits and words; replaced by placeholders and put back."""

from anabranch_guardrails.adapters.personal.check import VERSION, PersonalData, configured
from anabranch_guardrails.adapters.personal.kinds import DEFAULT, KINDS, STRUCTURED, TYPES

__all__ = ["DEFAULT", "KINDS", "STRUCTURED", "TYPES", "VERSION", "PersonalData", "configured"]
