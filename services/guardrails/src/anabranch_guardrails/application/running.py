"""One text through the rules of a plan: looks made, results judged, failures handled and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import Final

from anabranch_faults import Fault
from anabranch_guardrails.application.catalogue import Step
from anabranch_guardrails.application.ports import Check, Telemetry
from anabranch_guardrails.application.workers import Look, Looked, Workers
from anabranch_guardrails.domain import Finding, Span, Status, Subject, Verdict
from anabranch_guardrails.domain.policies import Allow, Result, failed, judge, skipped

__all__ = ["Runner"]

_OVERLAP: Final = 512
_REMOTE_AT_ONCE: Final = 16


@dataclass(slots=True)
class _Judging:
    step: Step
    subject: Subject
    allow: tuple[Allow, ...]

    def __call__(self, looked: Looked) -> Result:
        step, rule = self.step, self.step.rule
        version, threshold = step.version, step.kind.threshold
        if looked.skipped:
            return skipped(rule, version=version, threshold=threshold)
        if looked.late:
            reason = "the check took too long"
            return failed(rule, Status.TIMEOUT, version=version, threshold=threshold, reason=reason, took=looked.took)
        if looked.fault is not None:
            reason = "the check failed"
            return failed(rule, Status.ERROR, version=version, threshold=threshold, reason=reason, took=looked.took)
        return judge(
            rule,
            _joined(looked.findings),
            self.subject.text,
            version=version,
            threshold=threshold,
            allow=self.allow,
            took=looked.took,
        )


class Runner:
    """Runs steps over subjects."""

    def __init__(self, *, workers: Workers, telemetry: Telemetry) -> None:
        """Takes where checks run, and what is told of them."""
        self._workers = workers
        self._telemetry = telemetry
        self._remote = asyncio.Semaphore(_REMOTE_AT_ONCE)

    async def run(
        self,
        steps: Sequence[Step],
        subjects: Sequence[Subject],
        *,
        allow: tuple[Allow, ...] = (),
        short: bool = True,
        patient: bool = False,
    ) -> list[list[Result]]:
        """The results of every step for each of the subjects, in the order of the steps.

        With `short`, the first BLOCK leaves the later steps of all subjects skipped, those in shadow apart. Raises
        Overloaded; who is `patient` waits in line instead.
        """
        here = [step for step in steps if step.check is not None]
        looks, judges = [], []
        for subject in subjects:
            for step in here:
                judging = _Judging(step, subject, allow)
                judges.append(judging)
                looks.append(_look(step, subject, judging, short=short))
        looked = await self._workers.run(looks, patient=patient)
        found = [self._told(judging, one) for judging, one in zip(judges, looked, strict=True)]
        results = [found[at * len(here) : (at + 1) * len(here)] for at in range(len(subjects))]
        elsewhere = [step for step in steps if step.remote is not None]
        if not elsewhere:
            return results
        decided = short and any(_blocks(result) for each in results for result in each)
        asked = await asyncio.gather(
            *(self._ask(_Judging(step, subject, allow), decided=decided) for subject in subjects for step in elsewhere)
        )
        more = len(elsewhere)
        return [[*each, *asked[at * more : (at + 1) * more]] for at, each in enumerate(results)]

    async def _ask(self, judging: _Judging, *, decided: bool) -> Result:
        step, began = judging.step, perf_counter()
        remote = step.remote
        if remote is None or (decided and not step.rule.shadow):
            return self._told(judging, Looked(skipped=True))
        try:
            async with asyncio.timeout(step.timeout.total_seconds()), self._remote:
                finding = await remote.look(judging.subject)
        except TimeoutError:
            return self._told(judging, Looked(late=True, took=_since(began)))
        except Exception as fault:  # noqa: BLE001  whatever it raises is counted, and handled as the policy says
            return self._told(judging, Looked(fault=fault, took=_since(began)))
        return self._told(judging, Looked(findings=[finding], took=_since(began)))

    def _told(self, judging: _Judging, looked: Looked) -> Result:
        result = judging(looked)
        stage = judging.subject.stage
        self._telemetry.looked(stage, result)
        if result.status in (Status.ERROR, Status.TIMEOUT):
            # A fault's own sentence is free of secrets; any other error may quote the text.
            fault = looked.fault
            problem = str(fault) if isinstance(fault, Fault) else type(fault).__name__ if fault else result.reason
            self._telemetry.failed(stage, result, problem)
        return result


def _since(began: float) -> timedelta:
    return timedelta(seconds=perf_counter() - began)


def _blocks(result: Result) -> bool:
    return result.verdict is Verdict.BLOCK and not result.shadow


def _look(step: Step, subject: Subject, judging: _Judging, *, short: bool) -> Look:
    check = step.check
    if check is None:
        raise AssertionError(step.rule.check)
    stops: Callable[[Looked], bool] = (lambda looked: _blocks(judging(looked))) if short else (lambda _: False)
    return Look(
        name=step.rule.check,
        parts=_parts(check, subject, len(subject.text) if step.kind.whole else step.kind.window),
        limit=step.timeout,
        always=step.rule.shadow or not short,
        stops=stops,
    )


def _parts(check: Check, subject: Subject, window: int) -> list[Callable[[], Finding]]:
    if len(subject.text) <= window:
        return [partial(check.look, subject)]
    starts = range(0, len(subject.text) - _OVERLAP, window - _OVERLAP)
    return [partial(_windowed, check, subject, start, start + window) for start in starts]


def _windowed(check: Check, subject: Subject, start: int, end: int) -> Finding:
    finding = check.look(replace(subject, text=subject.text[start:end], key=""))
    return replace(
        finding,
        spans=tuple(replace(span, start=span.start + start, end=span.end + start) for span in finding.spans),
    )


def _joined(findings: Sequence[Finding]) -> Finding:
    if len(findings) == 1:
        return findings[0]
    best = max(findings, key=lambda finding: finding.score)
    return Finding(
        score=best.score, spans=_distinct(span for each in findings for span in each.spans), reason=best.reason
    )


def _distinct(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Windows overlap, and what stands in both is one."""
    return tuple(dict.fromkeys(spans))
