"""Artifacts by content: stored, signed, verified."""

from anabranch_artifacts.bom import Dataset, ml_bom
from anabranch_artifacts.contents import BOM, CARD, SIGNATURE, digest_of, kind_of
from anabranch_artifacts.keys import Signer, make_keys
from anabranch_artifacts.store import Artifact, ArtifactStore, Kind, Stored

__all__ = [
    "BOM",
    "CARD",
    "SIGNATURE",
    "Artifact",
    "ArtifactStore",
    "Dataset",
    "Kind",
    "Signer",
    "Stored",
    "digest_of",
    "kind_of",
    "make_keys",
    "ml_bom",
]
