"""The backend that quotes: the best supported sentences, each with its citation, or an abstention."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Final

from anabranch_faults import Invalid
from anabranch_generation.adapters.extractive import picker
from anabranch_generation.adapters.extractive.picker import Choice, Model, Picked
from anabranch_generation.adapters.extractive.question import read
from anabranch_generation.domain import (
    BackendInfo,
    Citation,
    Delta,
    Event,
    Finished,
    FinishReason,
    Request,
    Span,
    Usage,
    estimate_tokens,
    pack,
)

NAME: Final = "extractive"
ABSTENTION: Final = "The documents found do not answer this question."
_SENTENCES: Final = 2
_SPACE: Final = re.compile(r"\s+")
# A table's row reads "Default: | 5" in the extracted text.
_CELL: Final = re.compile(r":\s*\|")


@dataclass(frozen=True, slots=True)
class ExtractiveBackend:
    """Quotes up to `max_sentences` sentences (default two), each followed by its marker: `Sentence. [1] Sentence. [2]`.

    Inside a sentence of the answer, white space is folded and the bar after a field's colon left out; a citation's
    text is the document's to the letter. The answer abstains when its support is below `abstain_below`. Works in the
    event loop: a millisecond an answer.
    """

    model: Model = field(default_factory=picker.shipped)

    @property
    def info(self) -> BackendInfo:
        """One model: the version of its coefficients."""
        return BackendInfo(NAME, (self.model.version,))

    async def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """See the port. Raises Invalid for a model or an adapter it does not have."""
        settings = request.settings
        if settings.model not in ("", self.model.version):
            raise Invalid(f"is {settings.model!r}; {NAME} has {self.model.version}", field="settings.model")
        if settings.adapter:
            raise Invalid(f"is {settings.adapter!r}; {NAME} takes no adapter", field="settings.adapter")
        passages = pack(request.passages, settings.context_tokens)
        choice = picker.choose(
            read(request.question), passages, most=settings.max_sentences or _SENTENCES, model=self.model
        )
        prompt_tokens = estimate_tokens(request.question) + sum(estimate_tokens(p.text) for p in passages)
        if not choice.picked or choice.support < (settings.abstain_below or self.model.abstain_below):
            yield Delta(ABSTENTION)
            yield Finished(
                reason=FinishReason.ABSTAINED,
                usage=Usage(prompt_tokens, estimate_tokens(ABSTENTION)),
                abstained=True,
                support=choice.support,
            )
            return
        written, reason = 0, FinishReason.STOP
        for picked in ordered(choice):
            # As everywhere, [n] is the n-th passage: two sentences of one passage carry the same number.
            number = picked.candidate.passage + 1
            passage, sentence = passages[picked.candidate.passage], picked.candidate.sentence
            quoted = passage.text[sentence.start : sentence.end]
            shown = _shown(quoted)
            separator = " " if written else ""
            piece = f"{separator}{shown} [{number}]"
            if written and settings.max_tokens and estimate_tokens("x" * (written + len(piece))) > settings.max_tokens:
                reason = FinishReason.LENGTH
                break
            start = written + len(separator)
            yield Delta(piece)
            yield Citation(
                number=number,
                passage=passage,
                text=quoted,
                span=passage.in_document(sentence.start, sentence.end),
                answer_span=Span(start, start + len(shown)),
                support=_support(choice, picked),
            )
            written += len(piece)
        yield Finished(
            reason=reason,
            usage=Usage(prompt_tokens, estimate_tokens("x" * written)),
            support=choice.support,
        )

    async def close(self) -> None:
        """Holds nothing."""


def _shown(quoted: str) -> str:
    return _SPACE.sub(" ", _CELL.sub(":", quoted))


def ordered(choice: Choice) -> Sequence[Picked]:
    """Best first; sentences of one passage together, in the order of its text."""
    first_of: dict[int, int] = {}
    for rank, picked in enumerate(choice.picked):
        first_of.setdefault(picked.candidate.passage, rank)
    return sorted(choice.picked, key=lambda p: (first_of[p.candidate.passage], p.candidate.position))


def _support(choice: Choice, picked: Picked) -> float:
    """The answer's support for its best sentence, less for the others in the measure of the model's belief."""
    best = max(p.share for p in choice.picked)
    return choice.support * (0.5 + 0.5 * picked.share / best) if best > 0 else choice.support
