"""Policies as messages and YAML, read with care: every fault is named at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from importlib import resources
from typing import Any, Final, TypeVar

import re2  # type: ignore[import-untyped] # it carries no types
import yaml
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from anabranch.registry.v1 import guards_pb2 as pb
from anabranch_faults import Invalid
from anabranch_guardrails.application.catalogue import Catalogue, Plan
from anabranch_guardrails.application.policies import BUILT_IN
from anabranch_guardrails.domain import Stage, Verdict
from anabranch_guardrails.domain.policies import HOLD_BACK, MESSAGE, Allow, FailureMode, Policy, Rule

__all__ = ["built_in", "message_from_yaml", "plan_of", "yaml_of"]

T = TypeVar("T")

_MOST_FAULTS: Final = 20
_LONGEST_PATTERN: Final = 1_000
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20


def plan_of(message: pb.GuardPolicy, catalogue: Catalogue) -> Plan:
    """The policy, ready to run. Raises Invalid that names all that this build cannot take."""
    faults: list[Invalid] = []
    rules = []
    for place, each in enumerate(message.rules):
        path = f"rules[{place}]"
        if each.disabled or (rule := _kept(faults, path, partial(_rule, each))) is None:
            continue
        if _kept(faults, path, partial(catalogue.step, rule)) is not None:
            rules.append(rule)
    allow = [_kept(faults, f"allow[{place}]", partial(_allow, entry)) for place, entry in enumerate(message.allow)]
    kinds = frozenset(message.anonymise)
    if kinds:
        _kept(faults, "anonymise", lambda: catalogue.anonymiser(kinds))
    policy = _kept(
        faults,
        "",
        lambda: Policy(
            version=message.policy_version,
            name=message.name,
            rules=tuple(rules),
            allow=tuple(entry for entry in allow if entry is not None),
            anonymise=kinds,
            mark_passages=message.mark_passages,
            canary=message.canary,
            hold_back=message.hold_back.ToTimedelta() if message.HasField("hold_back") else HOLD_BACK,
            message=message.blocked_message or MESSAGE,
        ),
    )
    if faults or policy is None:
        raise Invalid("; ".join(str(fault) for fault in faults[:_MOST_FAULTS]), reason="NOT_A_POLICY")
    return catalogue.plan(policy)


def built_in(catalogue: Catalogue) -> tuple[Plan, pb.GuardPolicy]:
    """What holds where the registry says nothing, and as it is written."""
    text = resources.files("anabranch_guardrails").joinpath("policies/default.yaml").read_text("utf-8")
    message = message_from_yaml(text)
    message.policy_version = BUILT_IN
    return plan_of(message, catalogue), message


def message_from_yaml(text: str) -> pb.GuardPolicy:
    """A policy as people write it: `input` stands for STAGE_INPUT, `block` for VERDICT_BLOCK. Raises Invalid."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"is not YAML: {' '.join(str(error).split())[:300]}", field="yaml", reason="NOT_YAML") from error
    if not isinstance(content, dict):
        raise Invalid("is no mapping of settings", field="yaml", reason="NOT_A_POLICY")
    rules = content.get("rules")
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict):
            _lengthened(rule)
    try:
        return ParseDict(content, pb.GuardPolicy())
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        raise Invalid(str(error)[:300], field="yaml", reason="NOT_A_POLICY") from error


def yaml_of(message: pb.GuardPolicy) -> str:
    """The policy as people read it."""
    content = MessageToDict(message, preserving_proto_field_name=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _lengthened(rule: dict[str, Any]) -> None:
    for field, prefix in (("stage", "STAGE_"), ("action", "VERDICT_"), ("on_failure", "FAILURE_MODE_")):
        given = rule.get(field)
        if isinstance(given, str) and not given.startswith(prefix):
            rule[field] = f"{prefix}{given.upper()}"


def _rule(message: pb.GuardRule) -> Rule:
    return Rule(
        check=message.check,
        stage=_known(Stage, message.stage, "stage"),
        action=_known(Verdict, message.action, "action"),
        threshold=message.threshold if message.HasField("threshold") else None,
        on_failure=_known(FailureMode, message.on_failure, "on_failure") or FailureMode.CLOSED,
        timeout=_timeout(message),
        shadow=message.shadow,
        options=MessageToDict(message.options) if message.HasField("options") else {},
    )


def _timeout(message: pb.GuardRule) -> timedelta | None:
    return message.timeout.ToTimedelta() if message.HasField("timeout") else None


def _known(kind: Callable[[int], T], number: int, field: str) -> T:
    try:
        return kind(number)
    except ValueError as error:
        raise Invalid(f"this build does not know {number}", field=field) from error


def _allow(entry: pb.AllowEntry) -> Allow:
    return Allow(check=entry.check, reason=entry.reason, matches=_matcher(entry))


def _matcher(entry: pb.AllowEntry) -> Callable[[str], bool]:
    if entry.WhichOneof("what") == "pattern":
        if len(entry.pattern) > _LONGEST_PATTERN:
            raise Invalid(f"has more than {_LONGEST_PATTERN} characters", field="pattern")
        try:
            compiled = re2.compile(entry.pattern, options=_OPTIONS)
        except re2.error as error:
            said = error.args[0] if error.args else "not a pattern"
            problem = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            raise Invalid(f"RE2 cannot take it: {problem}", field="pattern") from error
        return lambda text: compiled.fullmatch(_encodable(text)) is not None
    known = entry.text
    if not known:
        raise Invalid("give a text or a pattern", field="text")
    return lambda text: text == known


def _encodable(text: str) -> str:
    """RE2 reads UTF-8, which half a surrogate pair has no form in."""
    return text.encode(errors="replace").decode()


def _kept(faults: list[Invalid], path: str, make: Callable[[], T]) -> T | None:
    try:
        return make()
    except Invalid as fault:
        field = ".".join(part for part in (path, fault.field) if part)
        faults.append(Invalid(fault.problem, field=field, reason=fault.reason))
        return None
