"""Texts as a reader, or a model, would read them."""

from anabranch_guardrails.adapters.normal.check import Normalisation
from anabranch_guardrails.adapters.normal.folding import Folded, fold
from anabranch_guardrails.adapters.normal.unfolding import DEPTH, LOOKED_AT, Layer, Unfolded, unfold
from anabranch_guardrails.adapters.normal.words import Words, known_words

__all__ = [
    "DEPTH",
    "LOOKED_AT",
    "Folded",
    "Layer",
    "Normalisation",
    "Unfolded",
    "Words",
    "fold",
    "known_words",
    "unfold",
]
