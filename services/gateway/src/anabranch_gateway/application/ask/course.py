"""What has become known of one answer so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from anabranch_gateway.application.caching import Lookup
from anabranch_gateway.domain.answers import (
    ZERO,
    Citation,
    Finished,
    FinishReason,
    Found,
    Generated,
    Passage,
    Timings,
    Usage,
)
from anabranch_gateway.domain.costs import ModelCall, Purpose
from anabranch_gateway.domain.guards import Checked, Guard, GuardResult, GuardSubject, Stage, told
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.domain.placeholders import Vault, Veiled
from anabranch_gateway.domain.questions import Question, Turn
from anabranch_gateway.domain.routing import Choice

NOTHING = Found(passages=(), index_generation=0, embedding_version="", embed_time=ZERO, search_time=ZERO)


@dataclass(slots=True, kw_only=True)
class Course:
    """One answer on its way: each stage reads what those before it have left, and adds its own.

    What leaves for a model has `model_` before its name: there, placeholders stand for personal data where the policy
    says so. Without guardrails it is the same as what people see.
    """

    answer_id: str
    caller: Caller
    question: Question
    labels: Sequence[str]
    choice: Choice
    began: float
    clock: Callable[[], float]

    # The name that the session is kept under; empty: there is none.
    session: bytes = b""
    history: Sequence[Turn] = ()
    model_history: Sequence[Turn] = ()
    # The question to go on with: without what the policy redacts.
    asked: str = ""
    model_asked: str = ""
    # What the index is asked: `asked`, made to stand alone.
    query: str = ""
    model_query: str = ""
    condensing: ModelCall | None = None
    # Tokens that the answer may have: the caller's bound, or what money was put aside for. 0: the variant's.
    max_tokens: int = 0
    # What was found in the answer cache; None: it was not asked.
    lookup: Lookup | None = None

    found: Found | None = None
    ranks_randomised: bool = False
    # What may be shown and cited of what was found.
    shown: Sequence[Passage] = ()
    model_passages: Sequence[Passage] = ()

    vault: Vault = field(default_factory=Vault)
    veiled: dict[str, Veiled] = field(default_factory=dict)
    canary: str = ""
    mark_passages: bool = False
    policy_version: str = ""
    guards: list[GuardResult] = field(default_factory=list)
    # What the person asking is told when the answer was blocked; None: it was not.
    blocked: str | None = None

    # The answer as the model wrote it, and as it was shown.
    draft: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    generated: Generated | None = None
    # Calls of an answer that broke off, as far as they were counted; what all calls came to, None: not known.
    broken: Sequence[ModelCall] = ()
    cost: int | None = None
    # When the model ended, by the clock; 0: it has not.
    drafted: float = 0.0

    condense: timedelta = ZERO
    generate: timedelta = ZERO
    first_token: timedelta = ZERO
    guard_input: timedelta = ZERO
    guard_output: timedelta = ZERO

    @property
    def text(self) -> str:
        """The answer so far, as it was shown."""
        return "".join(self.pieces)

    @property
    def subject(self) -> GuardSubject:
        """Whose policy holds."""
        return GuardSubject(
            tenant=self.caller.tenant,
            corpus=self.question.corpus,
            request_id=self.answer_id,
            policy_version=self.choice.variant.policy_version,
        )

    @property
    def calls(self) -> Sequence[ModelCall]:
        """Calls of models so far, in their order; an answer made to check the cache is a probe."""
        condensing = [self.condensing] if self.condensing is not None else []
        writing = self.generated.calls if self.generated is not None else self.broken
        return [*condensing, *metered_as(writing, self.lookup)]

    @property
    def cached_from(self) -> str:
        """The answer that this one repeats; empty: it is new."""
        answer = self.lookup.answer if self.lookup is not None else None
        return answer.answer_id if answer is not None else ""

    def since(self, start: float) -> timedelta:
        """Time gone since a moment of the clock."""
        return timedelta(seconds=self.clock() - start)

    def show(self, text: str) -> None:
        """Text of the answer goes out."""
        if not self.pieces:
            self.first_token = self.since(self.began)
        self.pieces.append(text)

    def take(self, checked: Checked, stage: Stage) -> list[Guard]:
        """Keeps what guardrails found; what the person asking is to be told of it."""
        self.guards += [each for each in checked.results if each.kept]
        self.policy_version = checked.policy_version or self.policy_version
        return told(checked.results, stage)

    def finished(self) -> Finished:
        """The end of it; only after generation, or a block."""
        found, generated = self.found or NOTHING, self.generated
        assert generated is not None or self.blocked is not None  # noqa: S101  the pipeline has passed one of them
        reason = generated.reason if generated is not None else FinishReason.BLOCKED
        return Finished(
            usage=generated.usage if generated is not None else Usage(),
            timings=Timings(
                condense=self.condense,
                embed=found.embed_time,
                search=found.search_time,
                generate=self.generate,
                first_token=self.first_token,
                total=self.since(self.began),
                guard_input=self.guard_input,
                guard_output=self.guard_output,
            ),
            abstained=generated is not None and generated.abstained and self.blocked is None,
            citations=tuple(self.citations) if self.blocked is None else (),
            reason=reason if self.blocked is None else FinishReason.BLOCKED,
            message=self.blocked or "",
            cached=bool(self.cached_from),
            cost_micros=self.cost,
        )


def metered_as(calls: Sequence[ModelCall], lookup: Lookup | None) -> Sequence[ModelCall]:
    """The calls by what they were for: an answer made to check the cache is a probe."""
    if lookup is None or not lookup.probing:
        return calls
    return [replace(call, purpose=Purpose.PROBE) if call.purpose is Purpose.ANSWER else call for call in calls]
