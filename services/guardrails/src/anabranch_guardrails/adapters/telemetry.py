"""Metrics and log lines of the use cases."""

from __future__ import annotations

from datetime import timedelta

from anabranch_guardrails.domain import Stage, Verdict
from anabranch_guardrails.domain.policies import Result
from anabranch_observability import counter, get_logger, histogram
from anabranch_observability.names import guardrails as names

__all__ = ["Observed"]

log = get_logger()


class Observed:
    """The Telemetry port."""

    def looked(self, stage: Stage, result: Result) -> None:
        """See the port."""
        counter(names.CHECKS).labels(
            check=result.check,
            stage=stage.name.lower(),
            status=result.status.name.lower(),
            verdict=result.verdict.name.lower(),
            shadow=str(result.shadow).lower(),
        ).inc()
        if result.took:
            seconds = histogram(names.CHECK_SECONDS).labels(check=result.check, stage=stage.name.lower())
            seconds.observe(result.took.total_seconds())

    def decided(self, stage: Stage, verdict: Verdict, took: timedelta) -> None:
        """See the port."""
        counter(names.DECISIONS).labels(stage=stage.name.lower(), verdict=verdict.name.lower()).inc()
        histogram(names.DECISION_SECONDS).labels(stage=stage.name.lower()).observe(took.total_seconds())

    def failed(self, stage: Stage, result: Result, problem: str) -> None:
        """See the port."""
        mode = "closed" if result.verdict is Verdict.BLOCK else "open"
        counter(names.CHECK_FAILURES).labels(
            check=result.check, stage=stage.name.lower(), status=result.status.name.lower(), mode=mode
        ).inc()
        log.warning(
            names.Log.CHECK_FAILED,
            check=result.check,
            version=result.version,
            stage=stage.name.lower(),
            status=result.status.name.lower(),
            mode=mode,
            shadow=result.shadow,
            problem=problem,
        )

    def remembered(self, *, hit: bool) -> None:
        """See the port."""
        counter(names.PASSAGES_REMEMBERED).labels(outcome="hit" if hit else "miss").inc()

    def held(self, wait: timedelta) -> None:
        """See the port."""
        histogram(names.HELD_SECONDS).observe(wait.total_seconds())

    def abandoned(self, check: str) -> None:
        """See the port."""
        counter(names.WORKERS_ABANDONED).labels(check=check).inc()
        log.error(names.Log.WORKER_ABANDONED, check=check)

    def refused(self, version: str, problem: str) -> None:
        """See the port."""
        counter(names.POLICIES_REFUSED).inc()
        log.error(names.Log.POLICY_REFUSED, policy_version=version, problem=problem)
