"""The use cases, and the ports they need."""

from __future__ import annotations

from anabranch_generation.application.answering import Generate, Limits
from anabranch_generation.application.condensing import Condense
from anabranch_generation.application.ports import Backend, Backends, Rewriter
from anabranch_generation.application.prompts import PromptTable

__all__ = ["Backend", "Backends", "Condense", "Generate", "Limits", "PromptTable", "Rewriter"]
