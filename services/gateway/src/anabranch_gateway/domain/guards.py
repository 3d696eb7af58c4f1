"""What guardrails say of a text, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NewType, TypeAlias

from anabranch_faults import Invalid
from anabranch_gateway.domain import names
from anabranch_gateway.domain.questions import TURN_CHARACTERS, TURNS

# One check's result in the contract's own form, for the record.
ResultDetail = NewType("ResultDetail", object)

TEXT_CHARACTERS: Final = 1024 * 1024
PASSAGES: Final = 100

# Checks that look for what must not be written down.
PRIVATE: Final = frozenset({"pii", "secrets"})


class Stage(IntEnum):
    """Where on its way a text is; the numbers are the contract's."""

    UNSPECIFIED = 0
    INPUT = 1
    CONTEXT = 2
    OUTPUT = 3
    INGESTION = 4


class Verdict(IntEnum):
    """What is done; the numbers are the contract's. One that is not known here blocks."""

    UNSPECIFIED = 0
    ALLOW = 1
    REDACT = 2
    FLAG = 3
    BLOCK = 4
    REVIEW = 5

    @classmethod
    def _missing_(cls, value: object) -> Verdict:  # noqa: ARG003  enum calls it with the value
        return cls.BLOCK

    @property
    def stops(self) -> bool:
        """Whether the text goes no further: only what is known to let it pass does."""
        return self not in _PASSING


_PASSING: Final = frozenset({Verdict.ALLOW, Verdict.REDACT, Verdict.FLAG})


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSubject:
    """Whose policy holds, and what the text belongs to in events."""

    tenant: str
    corpus: str
    request_id: str
    policy_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPassage:
    """Retrieved text, as checks see it."""

    text: str
    source_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult:
    """What one check made of a text. `spans` are code points of the text as it came, and the kind of what stands there.

    `passage` counts from 0, where passages were checked. A check in `shadow` has no effect.
    """

    check: str
    verdict: Verdict
    reason: str
    detail: ResultDetail
    shadow: bool = False
    # It failed, or was too slow.
    failed: bool = False
    passage: int | None = None
    spans: Sequence[tuple[int, int, str]] = ()

    @property
    def told(self) -> bool:
        """Whether whoever asked hears of it."""
        return not self.shadow and self.verdict not in (Verdict.ALLOW, Verdict.UNSPECIFIED)

    @property
    def kept(self) -> bool:
        """Whether the record names it."""
        return self.shadow or self.failed or self.told


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is to be done with a text, or with the passages of a question.

    `text` is what to go on with, `vault` what placeholders in it stand for, `anonymised` the passages with placeholders
    (empty: nothing was replaced), `passages` a verdict on each. With `mark_passages` prompts mark passages, and hold a
    canary.
    """

    verdict: Verdict
    results: Sequence[GuardResult] = ()
    text: str = ""
    policy_version: str = ""
    vault: Mapping[str, str] = field(default_factory=dict)
    passages: Sequence[Verdict] = ()
    anonymised: Sequence[str] = ()
    mark_passages: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What an answer is checked against. `citations`: how many passages there are to cite."""

    question: str
    passages: Sequence[GuardPassage] = ()
    canary: str = ""
    response_schema: Mapping[str, object] | None = None
    vault: Mapping[str, str] = field(default_factory=dict)
    citations: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """Text of an answer that may be shown."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A check has found something in an answer that is still being written."""

    verdict: Verdict
    result: GuardResult


OutputEvent: TypeAlias = Released | Noted | Checked


@dataclass(frozen=True, slots=True)
class Ended:
    """No more text of an answer comes. One that `abstained` is not held against its passages."""

    abstained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A verdict, as whoever asked is told of it."""

    verdict: Verdict
    check: str
    reason: str
    stage: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToCheck:
    """One text of an app that brings its own model. `text` is empty where passages are checked.

    Whatever breaks the contract raises Invalid with the field's name as the contract has it.
    """

    stage: Stage
    text: str = ""
    corpus: str = ""
    question: str = ""
    turns: Sequence[str] = ()
    passages: Sequence[str] = ()
    response_schema: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        """Checks every field."""
        if self.corpus:
            names.corpus(self.corpus)
        if self.stage is Stage.UNSPECIFIED:
            raise Invalid("must be input, context, output or ingestion", field="stage", reason="UNSPECIFIED")
        if self.stage is Stage.CONTEXT and not self.passages:
            raise Invalid("is empty: in the stage context they are what is checked", field="passages", reason="EMPTY")
        if self.stage is not Stage.CONTEXT and not self.text:
            raise Invalid("is empty", field="text", reason="EMPTY")
        names.text(self.text, field="text", limit=TEXT_CHARACTERS)
        names.text(self.question, field="question", limit=names.QUESTION_CHARACTERS)
        names.texts(self.turns, field="turns", number=TURNS, limit=TURN_CHARACTERS)
        names.texts(self.passages, field="passages", number=PASSAGES, limit=TURN_CHARACTERS)
        names.document(self.response_schema or {}, field="response_schema")


def told(results: Sequence[GuardResult], stage: Stage) -> list[Guard]:
    """The verdicts to tell, once for each check and verdict.

    A passage that was taken out does not end the answer: there, what stops a passage is told as something taken out.
    """
    guards: dict[tuple[str, Verdict], Guard] = {}
    for result in results:
        if result.told:
            verdict = Verdict.REDACT if stage is Stage.CONTEXT and result.verdict.stops else result.verdict
            guard = Guard(verdict=verdict, check=result.check, reason=result.reason, stage=stage)
            guards.setdefault((result.check, verdict), guard)
    return list(guards.values())


def masked(text: str, results: Sequence[GuardResult]) -> str:
    """The text without the personal data and secrets that were found in it: for the record of what was blocked."""
    spans = sorted({span for each in results if each.check in PRIVATE for span in each.spans})
    parts: list[str] = []
    at = 0
    for start, end, kind in spans:
        if start >= at:
            parts += [text[at:start], f"[{kind}]"]
        at = max(at, end)
    return "".join(parts) + text[at:]
