"""Whether passages bear an answer out, without asking a model."""

from anabranch_grounding.grounding import (
    SCORER_VERSION,
    Grounding,
    Support,
    groundedness,
    relevance,
    sentences_of,
    stems,
    version_of,
)
from anabranch_grounding.meaning import Meaning, Vector, quantised

__all__ = [
    "SCORER_VERSION",
    "Grounding",
    "Meaning",
    "Support",
    "Vector",
    "groundedness",
    "quantised",
    "relevance",
    "sentences_of",
    "stems",
    "version_of",
]
