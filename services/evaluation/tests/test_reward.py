from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anabranch_artifacts import ArtifactStore, Signer, make_keys
from anabranch_evaluation.adapters.rewarding import ArtifactReward
from anabranch_evaluation.application.scoring import Material, ScoreAnswers
from anabranch_faults import Invalid
from anabranch_reward import NAMES, RewardModel

GOOD = Material(question="When was it built?", answer="It was built in 1894. [1]", contexts=("It was built in 1894.",))
BAD = replace(GOOD, answer="Nobody ever found out, whatever they tried.")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    make_keys(tmp_path / "key", tmp_path / "key.pub")
    return ArtifactStore(str(tmp_path / "store"), public_key=tmp_path / "key.pub")


def put(store: ArtifactStore, tmp_path: Path, *, signer: Signer | None) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    weights = tuple(2.0 if name == "support" else 0.0 for name in NAMES)
    RewardModel(mean=(0.5,) * len(NAMES), scale=(1.0,) * len(NAMES), weights=weights).save(folder)
    return store.put(folder, kind="reward", signer=signer).version


async def test_answers_get_the_reward_of_a_verified_model_and_the_scorer_says_which(
    store: ArtifactStore, tmp_path: Path
) -> None:
    version = put(store, tmp_path, signer=Signer(tmp_path / "key"))
    plain = ScoreAnswers()
    score = replace(plain, reward=ArtifactReward.load(version, store=store, into=tmp_path / "into"))
    good, bad, none = await score([GOOD, BAD, replace(GOOD, abstained=True)])
    assert 0 <= bad.scores["reward"] < 0.5 < good.scores["reward"] <= 1
    assert "reward" not in none.scores
    assert good.version == await score.version() == f"{await plain.version()}+{version}"
    assert "reward" not in (await plain([GOOD]))[0].scores


def test_a_reward_model_that_does_not_verify_or_is_none_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    version = put(store, tmp_path, signer=None)
    with pytest.raises(Invalid) as caught:
        ArtifactReward.load(version, store=store, into=tmp_path / "into")
    assert caught.value.reason == "UNSIGNED"
    with pytest.raises(Invalid, match="no reward model"):
        ArtifactReward.load(version.replace("rw-", "rr-"), store=store, into=tmp_path / "into")
