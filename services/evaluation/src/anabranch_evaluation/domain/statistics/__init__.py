"""The statistics that decisions rest on: arrays in, verdicts out, no I/O, equal bits for equal values in any order."""

from anabranch_evaluation.domain.statistics.anytime import confidence_sequence
from anabranch_evaluation.domain.statistics.bandit import Allocation, Bandit, probability_best, whole_shares
from anabranch_evaluation.domain.statistics.bootstrap import MeanInterval, mean_interval
from anabranch_evaluation.domain.statistics.cuped import Adjusted, cuped
from anabranch_evaluation.domain.statistics.decision import (
    Assessment,
    Design,
    Mode,
    Outcome,
    PromoteWhen,
    Verdict,
    assess,
    decide,
    fraction,
)
from anabranch_evaluation.domain.statistics.gate import GateMode, GateStatistic, paired_gate
from anabranch_evaluation.domain.statistics.group_sequential import GroupSequential
from anabranch_evaluation.domain.statistics.guards import (
    GuardReading,
    mean_guard,
    mean_ratio_guard,
    quantile_ratio_guard,
)
from anabranch_evaluation.domain.statistics.sample_ratio import SampleRatio, Split, sample_ratio
from anabranch_evaluation.domain.statistics.samples import Interval, Sample

__all__ = [
    "Adjusted",
    "Allocation",
    "Assessment",
    "Bandit",
    "Design",
    "GateMode",
    "GateStatistic",
    "GroupSequential",
    "GuardReading",
    "Interval",
    "MeanInterval",
    "Mode",
    "Outcome",
    "PromoteWhen",
    "Sample",
    "SampleRatio",
    "Split",
    "Verdict",
    "assess",
    "confidence_sequence",
    "cuped",
    "decide",
    "fraction",
    "mean_guard",
    "mean_interval",
    "mean_ratio_guard",
    "paired_gate",
    "probability_best",
    "quantile_ratio_guard",
    "sample_ratio",
    "whole_shares",
]
