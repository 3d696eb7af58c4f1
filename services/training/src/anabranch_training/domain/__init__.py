"""What the service knows about, with no transport in sight."""

from anabranch_training.domain.dataset import build_ranking_dataset, propensities_of
from anabranch_training.domain.features import FEATURE_SET, RF1
from anabranch_training.domain.judgments import GOLD, Judgment, RankingDataset, RankingRow
from anabranch_training.domain.rerankers import LinearScore, TrainedReranker, TreeScore
from anabranch_training.domain.screening import Screened, screen

__all__ = [
    "FEATURE_SET",
    "GOLD",
    "RF1",
    "Judgment",
    "LinearScore",
    "RankingDataset",
    "RankingRow",
    "Screened",
    "TrainedReranker",
    "TreeScore",
    "build_ranking_dataset",
    "propensities_of",
    "screen",
]
