"""The check `normalisation`: how much of a text is hidden, disguised or written to be read in another way."""

from __future__ import annotations

import math
from typing import Final

from anabranch_guardrails.adapters.normal.unfolding import unfold
from anabranch_guardrails.domain import Finding, Span, Stage, Subject

__all__ = ["Normalisation"]

_WEIGHTS: Final = {
    "tags": 1.0, "smuggled": 1.0, "bidi": 0.35, "invisible": 0.12, "lookalikes": 0.06, "styled": 0.04,
    "surrogates": 0.1,
}  # fmt: skip
_SAID: Final = {
    "tags": "tag characters", "smuggled": "bytes in variation selectors", "bidi": "direction overrides",
    "invisible": "invisible characters", "lookalikes": "letters of other scripts", "styled": "styled letters",
    "surrogates": "lone surrogates",
}  # fmt: skip
_ENCODED: Final = frozenset({"base64", "base32", "hex", "bits", "rot13", "backwards", "apart"})


class Normalisation:
    """What was done to a text so that it reads otherwise than it looks. Bounded by `unfold`."""

    name: Final = "normalisation"
    version: Final = "1"
    threshold: Final = 0.7
    stages: Final = frozenset({Stage.INPUT, Stage.CONTEXT, Stage.INGESTION})
    description: Final = "Hidden, disguised and encoded text: invisible or look-alike characters, encodings."

    def look(self, subject: Subject) -> Finding:
        """How disguised it is; the reason counts what was found."""
        unfolded = unfold(subject.text)
        plain = unfolded.layers[0].folded
        weight = sum(_WEIGHTS[kind] * count for kind, count in plain.odd.items())
        said = [f"{count} {_SAID[kind]}" for kind, count in sorted(plain.odd.items())]
        spans = []
        ways: dict[str, int] = {}
        for layer in unfolded.layers[1:]:
            way = layer.how[-1]
            ways[way] = ways.get(way, 0) + 1
            if way in _ENCODED and layer.folded.text:
                spans.append(
                    Span(
                        start=int(layer.folded.starts.min()),
                        end=int(layer.folded.ends.max()),
                        kind="ENCODED",
                        score=0.5,
                    )
                )
        deepest = max(len(layer.how) for layer in unfolded.layers)
        weight += 0.3 * sum(ways.get(way, 0) > 0 for way in _ENCODED) + 0.2 * max(0, deepest - 1)
        said += [f"{count} read by {way}" for way, count in sorted(ways.items())]
        if deepest > 1:
            said.append(f"{deepest} encodings within each other")
        if unfolded.cut:
            weight += 1.0
            said.append("more encodings than are followed")
        if unfolded.seen < unfolded.length:
            said.append(f"{unfolded.seen} of {unfolded.length} characters looked at")
        return Finding(score=1 - math.exp(-weight), spans=tuple(spans), reason=", ".join(said))
