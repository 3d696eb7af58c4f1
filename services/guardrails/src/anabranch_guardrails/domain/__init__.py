"""What is checked, and what checks find."""

from anabranch_guardrails.domain.values import Context, Finding, Span, Stage, Status, Subject, Verdict

__all__ = ["Context", "Finding", "Span", "Stage", "Status", "Subject", "Verdict"]
