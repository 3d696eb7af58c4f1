"""What is checked, what checks find, and what policies make of it."""

from anabranch_guardrails.domain.values import Context, Finding, Span, Stage, Status, Subject, Verdict

__all__ = ["Context", "Finding", "Span", "Stage", "Status", "Subject", "Verdict"]
