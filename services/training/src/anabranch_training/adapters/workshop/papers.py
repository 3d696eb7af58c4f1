"""What people read about a data set and a model. Nothing in it depends on when or where a run was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch_training.domain import RankingDataset, TrainedReranker

__all__ = ["card_of", "datasheet_of"]


def datasheet_of(order: Mapping[str, Any], made: RankingDataset, counts: Mapping[str, int]) -> str:
    """The data set's sheet, Markdown."""
    sources = "\n".join(f"| {name} | {number} |" for name, number in made.sources.items())
    numbers = "\n".join(f"| {name} | {number} |" for name, number in sorted(counts.items()))
    places = ", ".join(f"{rank}: {chance:.2f}" for rank, chance in sorted(made.propensities.items())) or "not used"
    taught = "labels that came with the request" if order["gold"] else "feedback on answers"
    drill = "\nThe run was a drill: the model learned the labels turned round.\n" if order["reverse_labels"] else ""
    return f"""# Ranking data set of {order["tenant"]}/{order["corpus"]}

Judged passages, from {taught}: question (digest), document and chunk ids, label, weight, place shown, and the
features of {order["feature_set"]} as they were when the passage was shown. No free text, and nobody's name.
{drill}
| source | judgments |
| --- | --- |
{sources}

| count | |
| --- | --- |
{numbers}

- time span: {made.first.isoformat()} to {made.last.isoformat()}
- consent: given or not refused by everyone in it; {order["denied"]} feedbacks kept out because it was refused
- erasure: {order["withdrawn"]} feedbacks kept out because they were withdrawn before the data set was made
- label noise, estimated: {made.noise:.3f} of the labels are wrong
- filters: at most {order["per_user_cap"]} judgments a person ({made.dropped_by_cap} dropped); people who contradict the
  others beyond chance ({made.dropped_as_outlier} judgments dropped); what would have leaked into the held-out part
- position bias: chance of a judgment by place, relative to the likeliest: {places}
- held out: questions by the document they are about; no question and no such document is in both parts
"""


def card_of(order: Mapping[str, Any], dataset_version: str, model: TrainedReranker, origin: Mapping[str, str]) -> str:
    """The model's card, Markdown."""
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(model.metrics.items()))
    origins = "\n".join(f"| {name} | `{value}` |" for name, value in sorted(origin.items()))
    drill = "**A drill: trained on labels turned round. It must not serve.**\n\n" if order["reverse_labels"] else ""
    drill += f"**Not offered as a candidate: {model.declined}.**\n\n" if model.declined else ""
    reach = f" It moves the first {model.depth} candidates only." if model.depth else ""
    return f"""# Reranker for {order["tenant"]}/{order["corpus"]}

{drill}Orders the passages that the search found, from the features {model.feature_set}; {model.algorithm}. Meant for
this corpus and this feature set; it knows nothing of other corpora.{reach}

Learned from the data set {dataset_version}; its datasheet tells what that is made of. Limits: it has learned from
people who saw the first passages only, so what the search never shows it can judge only by likeness.

| metric (before: the search's own order) | |
| --- | --- |
{metrics}

| to make it again | |
| --- | --- |
{origins}
"""
