"""The reward model of an artifact: fetched, verified, read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from anabranch_artifacts import ArtifactStore, kind_of
from anabranch_faults import Invalid
from anabranch_reward import Candidate, RewardModel

__all__ = ["ArtifactReward"]

_MOST_BYTES: Final = 16 * 2**20


class ArtifactReward:
    """As the port says."""

    def __init__(self, model: RewardModel) -> None:
        """Takes a model that knows its version."""
        self._model = model

    @classmethod
    def load(cls, version: str, *, store: ArtifactStore, into: Path) -> ArtifactReward:
        """Fetch and verify it; blocks. Raises Invalid where it does not verify or is none; NotFound, Unreachable."""
        if kind_of(version) != "reward":
            raise Invalid(f"{version} is no reward model", field="ANABRANCH_EVALUATION_REWARD")
        artifact = store.fetch(version, into=into, max_bytes=_MOST_BYTES)
        return cls(RewardModel.load(artifact.folder, version=version))

    @property
    def version(self) -> str:
        """As in the port."""
        return self._model.version

    def score(self, question: str, answer: str, contexts: Sequence[str]) -> float:
        """As in the port."""
        return self._model.share(Candidate(question=question, passages=contexts, answer=answer))
