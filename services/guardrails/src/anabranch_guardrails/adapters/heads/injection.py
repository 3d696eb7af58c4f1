"""The check `injection`: prompts that take over, and instructions to the model in what should be read only."""

from __future__ import annotations

from typing import Final

from anabranch_guardrails.adapters.heads.linear import model
from anabranch_guardrails.adapters.heads.reading import (
    Part,
    Reading,
    asked,
    logistic,
    packaged,
    prompt_features,
    read,
    told_of,
)
from anabranch_guardrails.adapters.normal import LOOKED_AT
from anabranch_guardrails.domain import Finding, Span, Stage, Subject

__all__ = ["Injection"]

_INGESTED: Final = 262_144
_TURNS: Final = 3
_TURN: Final = 1_500
"""Characters of a turn, from its end."""
_MARKED: Final = 8


class Injection:
    """Injections and jailbreaks in what a person asks (INPUT), and injected instructions in passages and documents.

    A person's text is seen with their last turns, so that an attack split over turns is one text again.
    """

    name: Final = "injection"
    stages: Final = frozenset({Stage.INPUT, Stage.CONTEXT, Stage.INGESTION})
    description: Final = (
        "Prompt injection and jailbreaks, also encoded or spelt apart, in prompts and in retrieved text."
    )

    def __init__(self) -> None:
        stored = model("injection")
        self._stages = stored["stages"]
        self.version: str = stored["version"]
        self.threshold: float = stored["threshold"]

    def look(self, subject: Subject) -> Finding:
        """How likely it is an attack; spans are the sentences that say so."""
        if not subject.text.strip():
            return Finding(score=0.0)
        if subject.stage is Stage.INPUT:
            return self._prompt(subject)
        return self._passage(subject)

    def _prompt(self, subject: Subject) -> Finding:
        reading = read(subject.text)
        best, which = 0.0, None
        for part in reading.parts:
            score = logistic(prompt_features(part), self._stages["prompt"])
            if score > best:
                best, which = score, part
        over = self._over_turns(subject) if subject.turns else 0.0
        if over > best:
            span = (
                (Span(start=0, end=len(subject.text), kind="INJECTION", score=over),) if over >= self.threshold else ()
            )
            return Finding(score=over, spans=span, reason="together with the turns before, " + _REASONS["prompt"])
        return self._finding(best, which, reading, "prompt")

    def _over_turns(self, subject: Subject) -> float:
        """The turns before and this one as one text, without breaks between them."""
        before = [turn[-_TURN:].strip() for turn in subject.turns[-_TURNS:] if turn.strip()]
        best = 0.0
        for count in range(1, len(before) + 1):
            reading = read(" ".join([*before[-count:], subject.text[:_TURN].strip()]))
            for part in reading.parts:
                best = max(best, logistic(prompt_features(part), self._stages["prompt"]))
        earlier = max(
            (logistic(prompt_features(part), self._stages["prompt"]) for turn in before for part in read(turn).parts),
            default=0.0,
        )
        # What was let pass before is no reason to stop what follows it.
        return best if earlier < self.threshold else 0.0

    def _passage(self, subject: Subject) -> Finding:
        # A passage that is read whole at either stage is read once: it is known already when it is first retrieved.
        long = subject.stage is Stage.INGESTION and len(subject.text) > LOOKED_AT
        limit = _INGESTED if long else LOOKED_AT
        question = asked(subject.question)
        best, which = 0.0, None
        for place, part in enumerate(told_of(subject.text, limit)):
            score = logistic(part.to(question), self._stages["passage"])
            if score > best:
                best, which = score, place
        if which is None or best < self.threshold:
            return Finding(score=best)
        reading = read(subject.text, limit=limit)
        return self._finding(best, reading.parts[which], reading, "passage")

    def _finding(self, score: float, part: Part | None, reading: Reading, head: str) -> Finding:
        if part is None or score < self.threshold:
            return Finding(score=score)
        said = _REASONS[head]
        if part.layer.how:
            said += ", read by " + ", then ".join(part.layer.how)
        if reading.unfolded.seen < reading.unfolded.length:
            said += f"; {reading.unfolded.seen} of {reading.unfolded.length} characters looked at"
        return Finding(score=score, spans=_spans(part, head, score), reason=said)


_REASONS: Final = {
    "prompt": "reads like an attempt to take over the assistant",
    "passage": "holds an instruction to the assistant that its surroundings do not call for",
}


def _spans(part: Part, head: str, score: float) -> tuple[Span, ...]:
    """The windows that score most, none within another."""
    scores = part.scores[head]
    taken: list[tuple[int, int]] = []
    for window in scores.argsort()[::-1]:
        if len(taken) >= _MARKED or (taken and scores[window] < max(0.0, 0.5 * scores.max())):
            break
        start, end = part.span(int(window))
        if start < end and all(end <= low or start >= high for low, high in taken):
            taken.append((start, end))
    return tuple(Span(start=start, end=end, kind="INJECTION", score=score) for start, end in sorted(taken))


def warm() -> None:
    """Loads the models, so that the first text does not wait for it."""
    packaged()
    read("ready")
