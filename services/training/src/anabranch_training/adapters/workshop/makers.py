"""Which recipe makes what: its material, the files of its data set, and those of its model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anabranch_training.adapters.lines import judgment_from, opinion_from
from anabranch_training.adapters.workshop.folder import RunFolder

__all__ = ["Maker", "maker_of"]

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """The steps of a run; each raises Invalid for what teaches nothing. write_model is None for data sets alone."""

    dataset_of: Callable[[Mapping[str, Any], RunFolder], Any]
    write_dataset: Callable[[Mapping[str, Any], Any, Path], Entry]
    write_model: Callable[[Mapping[str, Any], Any, Mapping[str, Any], Path], Entry] | None = None


def maker_of(order: Mapping[str, Any]) -> Maker:
    """For the order's recipe, and kind of data set. Imports only what that needs."""
    recipe = order["recipe"]
    if order["kind"] == "ranking":
        from anabranch_training.adapters.workshop import making  # noqa: PLC0415  see above

        return Maker(
            dataset_of=lambda order, run: making.dataset_of(
                order, [judgment_from(one) for one in _lines(run.judgments)]
            ),
            write_dataset=making.write_dataset,
            write_model=making.write_model if recipe == "reranker" else None,
        )
    from anabranch_training.adapters.workshop import texts  # noqa: PLC0415  see above

    write_model = None
    if recipe == "reward":
        from anabranch_training.adapters.workshop.rewards import write_reward  # noqa: PLC0415  see above

        write_model = write_reward
    elif recipe in {"adapter_sft", "adapter_dpo"}:
        from anabranch_training.adapters.workshop.loras import write_adapter  # noqa: PLC0415  see above

        write_model = write_adapter
    return Maker(
        dataset_of=lambda order, run: texts.text_dataset_of(order, [opinion_from(one) for one in _lines(run.opinions)]),
        write_dataset=texts.write_text_dataset,
        write_model=write_model,
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
