"""Scores answers by what people prefer, and picks the best of several."""

from anabranch_reward.features import FEATURE_SET, NAMES, Candidate, features_of
from anabranch_reward.model import RewardModel, best_of

__all__ = ["FEATURE_SET", "NAMES", "Candidate", "RewardModel", "best_of", "features_of"]
