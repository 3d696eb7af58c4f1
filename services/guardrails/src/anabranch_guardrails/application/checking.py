"""Checking a text, or the passages of a question."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import perf_counter
from typing import Final

from anabranch_faults import Invalid, TooLarge
from anabranch_guardrails.application.catalogue import Catalogue, Plan, Step
from anabranch_guardrails.application.policies import Policies, Whose
from anabranch_guardrails.application.ports import Anonymiser, Blocked, BlockedRecord, Telemetry
from anabranch_guardrails.application.running import Runner
from anabranch_guardrails.domain import Context, Span, Stage, Status, Subject, Verdict
from anabranch_guardrails.domain.policies import Edit, Result, decide, edits_of, merged, rewritten

__all__ = ["LONGEST", "MOST_PASSAGES", "MOST_TURNS", "Asked", "CheckTexts", "Checked", "blocked_of"]

LONGEST: Final = 5 * 1024 * 1024
MOST_TURNS: Final = 50
MOST_PASSAGES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be checked: `subject.text`, or each of `subject.contexts` at CONTEXT, and at INGESTION if it has any.

    At INPUT `subject.contexts` are turns of the conversation: nothing is found in them, but where the policy anonymises
    they get placeholders together with the text.
    """

    whose: Whose
    subject: Subject
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is to be done. `text` is empty when blocked; `passages` are CONTEXT's, `rewritten` INPUT's too, in order."""

    verdict: Verdict
    results: tuple[Result, ...]
    text: str
    policy_version: str
    passages: tuple[Verdict, ...] = ()
    rewritten: tuple[str, ...] = ()
    vault: Mapping[str, str]
    mark_passages: bool = False
    message: str = ""


@dataclass(slots=True)
class _Memory:
    """What was found in passages, by policy, rule and key; the least lately used make room."""

    capacity: int
    kept: OrderedDict[tuple[str, ...], Result]

    def get(self, key: tuple[str, ...]) -> Result | None:
        if (found := self.kept.get(key)) is not None:
            self.kept.move_to_end(key)
        return found

    def put(self, key: tuple[str, ...], result: Result) -> None:
        self.kept[key] = result
        if len(self.kept) > self.capacity:
            self.kept.popitem(last=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hidden:
    texts: tuple[str, ...] = ()
    vault: Mapping[str, str] = field(default_factory=dict)
    fault: Result | None = None


class CheckTexts:
    """Runs the checks of the policy that holds. Raises Overloaded, Unreachable, Invalid, TooLarge."""

    def __init__(
        self,
        *,
        policies: Policies,
        catalogue: Catalogue,
        runner: Runner,
        record: BlockedRecord,
        telemetry: Telemetry,
        remembered: int = 100_000,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Takes its parts; `remembered` results of passages are kept."""
        self._policies = policies
        self._catalogue = catalogue
        self._runner = runner
        self._record = record
        self._telemetry = telemetry
        self._memory = _Memory(remembered, OrderedDict())
        self._now = now

    async def __call__(self, asked: Asked) -> Checked:
        """What is to be done about the text."""
        began = perf_counter()
        _within_limits(asked.subject)
        plan = self._policies.resolve(asked.whose).plan
        if asked.only:
            plan = self._catalogue.only(plan, asked.only, stage=asked.subject.stage)
        stage, contexts = asked.subject.stage, asked.subject.contexts
        if stage is Stage.CONTEXT or (stage is Stage.INGESTION and contexts):
            checked = await self._passages(plan, asked)
        else:
            checked = await self._text(plan, asked)
        self._telemetry.decided(asked.subject.stage, checked.verdict, timedelta(seconds=perf_counter() - began))
        if checked.verdict in (Verdict.BLOCK, Verdict.REVIEW):
            self._record.add(
                blocked_of(
                    asked.whose,
                    asked.subject.stage,
                    checked.verdict,
                    policy_version=checked.policy_version,
                    results=checked.results,
                    now=self._now(),
                )
            )
        return checked

    async def _text(self, plan: Plan, asked: Asked) -> Checked:
        policy, subject = plan.policy, asked.subject
        steps = plan.steps.get(subject.stage, ())
        results = (await self._runner.run(steps, [subject], allow=policy.allow))[0]
        verdict = decide(results)
        if verdict is Verdict.BLOCK:
            return _withheld(plan, verdict, results)
        anonymise = policy.anonymise if subject.stage is Stage.INPUT else frozenset()
        edits = edits_of(results, length=len(subject.text), keep=anonymise)
        turns = [context.text for context in subject.contexts] if anonymise else []
        hidden = self._hidden(anonymise, [subject.text, *turns], [edits, *([] for _ in turns)])
        if hidden.fault is not None:
            self._telemetry.failed(subject.stage, hidden.fault, hidden.fault.reason)
            return _withheld(plan, Verdict.BLOCK, [*results, hidden.fault])
        return Checked(
            verdict=_at_least_redact(verdict, changed=hidden.texts[0] != subject.text),
            results=tuple(results),
            text=hidden.texts[0],
            policy_version=policy.version,
            rewritten=hidden.texts[1:],
            vault=hidden.vault,
            mark_passages=policy.mark_passages or policy.canary,
            message=policy.message if verdict is Verdict.REVIEW else "",
        )

    async def _passages(self, plan: Plan, asked: Asked) -> Checked:
        policy, subject = plan.policy, asked.subject
        results = await self._looked_through(plan, subject)
        anonymise = policy.anonymise if subject.stage is Stage.CONTEXT else frozenset()
        verdicts: list[Verdict] = []
        edits: list[list[Edit]] = []
        for at, (context, found) in enumerate(zip(subject.contexts, results, strict=True)):
            found[:] = [replace(result, passage=at) for result in found]
            verdict = decide(found)
            if verdict is Verdict.REVIEW and subject.stage is Stage.CONTEXT:
                verdict = Verdict.BLOCK  # nobody can look at a passage before the answer is due
            verdicts.append(verdict)
            edits.append(edits_of(found, length=len(context.text), keep=anonymise))
        flat = [result for found in results for result in found]
        texts = [context.text for context in subject.contexts]
        # The question comes first, so that its placeholders are those that it was given as INPUT.
        hidden = self._hidden(anonymise, [subject.question, *texts], [[], *edits])
        if hidden.fault is not None:
            self._telemetry.failed(subject.stage, hidden.fault, hidden.fault.reason)
            return _withheld(plan, Verdict.BLOCK, [*flat, hidden.fault], passages=len(texts))
        put = hidden.texts[1:]
        verdicts = [
            _at_least_redact(verdict, changed=new != text)
            for verdict, new, text in zip(verdicts, put, texts, strict=True)
        ]
        heaviest = Verdict.ALLOW
        for verdict in verdicts:
            heaviest = verdict if verdict.outweighs(heaviest) else heaviest
        return Checked(
            verdict=heaviest,
            results=tuple(flat),
            text="",
            policy_version=policy.version,
            passages=tuple(verdicts),
            rewritten=put if anonymise or list(put) != texts else (),
            vault=hidden.vault,
            mark_passages=policy.mark_passages or policy.canary,
        )

    def _hidden(self, kinds: frozenset[str], texts: Sequence[str], edits: Sequence[Sequence[Edit]]) -> _Hidden:
        """The texts with every edit made, and placeholders for personal data of `kinds` where none was.

        Where a redaction and personal data meet, both are redacted. A fault is a block: what was to stay would leave.
        """
        if not kinds:
            return _Hidden(texts=tuple(map(rewritten, texts, edits)))
        try:
            anonymiser = self._catalogue.anonymiser(kinds)
            put = tuple(_hidden_in(anonymiser, text, each) for text, each in zip(texts, edits, strict=True))
            return _Hidden(texts=put, vault=dict(anonymiser.vault))
        except Exception as fault:  # noqa: BLE001  whatever it raises, personal data must not leave
            reason = f"personal data could not be replaced ({type(fault).__name__})"
            return _Hidden(
                fault=Result(check="pii", version="", verdict=Verdict.BLOCK, status=Status.ERROR, reason=reason)
            )

    async def _looked_through(self, plan: Plan, subject: Subject) -> list[list[Result]]:
        """The results for each passage: remembered, or found now; those found now in one go for each set of steps."""
        steps, policy = plan.steps.get(subject.stage, ()), plan.policy
        asked = sha256("\n".join([subject.question, *subject.turns]).encode(errors="replace")).hexdigest()[:32]
        found: list[dict[int, Result]] = [{} for _ in subject.contexts]
        open_steps: dict[tuple[int, ...], list[int]] = {}
        for at, context in enumerate(subject.contexts):
            missing = []
            for place, step in enumerate(steps):
                key = _memory_key(policy.version, place, step, context, asked)
                kept = self._memory.get(key) if key else None
                if key:
                    self._telemetry.remembered(hit=kept is not None)
                if kept is None:
                    missing.append(place)
                else:
                    found[at][place] = kept
            if missing:
                open_steps.setdefault(tuple(missing), []).append(at)
        for places, passages in open_steps.items():
            subjects = [_passage(subject, subject.contexts[at]) for at in passages]
            wanted = [steps[place] for place in places]
            # One passage's verdict must not leave another's checks out.
            ran = await self._runner.run(wanted, subjects, allow=policy.allow, short=False)
            for at, results in zip(passages, ran, strict=True):
                for place, result in zip(places, results, strict=True):
                    found[at][place] = result
                    key = _memory_key(policy.version, place, steps[place], subject.contexts[at], asked)
                    if key and result.status is Status.OK:
                        self._memory.put(key, replace(result, took=timedelta(0)))
        return [[each[place] for place in range(len(steps))] for each in found]


def blocked_of(
    whose: Whose,
    stage: Stage,
    verdict: Verdict,
    *,
    policy_version: str,
    results: Iterable[Result],
    now: datetime,
) -> Blocked:
    """The record of a text that was blocked or withheld, with what led to it."""
    return Blocked(
        request_id=whose.request_id,
        tenant=whose.tenant,
        corpus=whose.corpus,
        stage=stage,
        verdict=verdict,
        policy_version=policy_version,
        results=tuple(
            result for result in results if not result.shadow and result.verdict in (Verdict.BLOCK, Verdict.REVIEW)
        ),
        at=now,
    )


def _hidden_in(anonymiser: Anonymiser, text: str, edits: Sequence[Edit]) -> str:
    spans = anonymiser.spans(text)
    edits = merged(edits)
    known = [
        Edit(span.start, span.end, "")
        for span in spans
        if any(span.start < edit.end and edit.start < span.end for edit in edits)
    ]
    parts, done = [], 0
    # An edit that swallows personal data at its end takes all of it; `merged` gives the first one's mark.
    for edit in merged([*edits, *(Edit(one.start, one.end, _mark_of(one, edits)) for one in known)]):
        parts += [_part(anonymiser, text, spans, done, edit.start), edit.put]
        done = edit.end
    return "".join([*parts, _part(anonymiser, text, spans, done, len(text))])


def _mark_of(one: Edit, edits: Sequence[Edit]) -> str:
    return next(edit.put for edit in edits if one.start < edit.end and edit.start < one.end)


def _part(anonymiser: Anonymiser, text: str, spans: Sequence[Span], start: int, end: int) -> str:
    inside = [
        replace(span, start=span.start - start, end=span.end - start)
        for span in spans
        if start <= span.start and span.end <= end
    ]
    return anonymiser.replaced(text[start:end], inside)


def _at_least_redact(verdict: Verdict, *, changed: bool) -> Verdict:
    return Verdict.REDACT if changed and Verdict.REDACT.outweighs(verdict) else verdict


def _withheld(plan: Plan, verdict: Verdict, results: Sequence[Result], *, passages: int = 0) -> Checked:
    return Checked(
        verdict=verdict,
        results=tuple(results),
        text="",
        policy_version=plan.policy.version,
        passages=(verdict,) * passages,
        vault={},
        mark_passages=plan.policy.mark_passages or plan.policy.canary,
        message=plan.policy.message,
    )


def _passage(subject: Subject, context: Context) -> Subject:
    return replace(subject, text=context.text, key=context.key, contexts=())


def _memory_key(version: str, place: int, step: Step, context: Context, asked: str) -> tuple[str, ...] | None:
    if not context.key:
        return None
    return (
        version,
        step.rule.stage.name,
        str(place),
        step.rule.check,
        context.key,
        context.source_uri,
        asked if step.kind.asked else "",
    )


def _within_limits(subject: Subject) -> None:
    lengths = {
        "text": len(subject.text),
        "question": len(subject.question),
        "turns": sum(map(len, subject.turns)),
        "passages": sum(len(context.text) for context in subject.contexts),
    }
    for name, length in lengths.items():
        if length > LONGEST:
            raise TooLarge(f"{length} characters; at most {LONGEST}", field=name)
    if len(subject.turns) > MOST_TURNS:
        raise TooLarge(f"{len(subject.turns)} turns; at most {MOST_TURNS}", field="turns")
    if len(subject.contexts) > MOST_PASSAGES:
        raise TooLarge(f"{len(subject.contexts)} passages; at most {MOST_PASSAGES}", field="passages")
    if subject.stage is Stage.UNSPECIFIED:
        raise Invalid("say input, context, output or ingestion", field="stage")
