"""Policies: what the registry takes, guardrails can run; and both know the same checks."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from anabranch.registry.v1 import guards_pb2
from anabranch_faults import Invalid
from anabranch_guardrails.adapters.catalogue import catalogue
from anabranch_guardrails.domain import known as guardrails
from anabranch_guardrails.entrypoints.policies import plan_of
from anabranch_registry.adapters.patterns import problem_of
from anabranch_registry.domain import known as registry
from anabranch_registry.domain.guards import faults_of_guards
from anabranch_registry.entrypoints.policies import guards_from_yaml

OPTIONS: dict[str, dict[str, Any]] = {
    "length": {"characters": 100, "tokens": 10, "micros": 5, "micros_per_1000_tokens": 0.5},
    "canary": {"words": ["a-long-word"]},
    "patterns": {"patterns": ["a+b"], "case_sensitive": True},
    "schema": {"schema": {"type": "object"}},
    "markup": {"hosts": ["example.org"], "links": False},
    "pii": {"kinds": ["EMAIL"]},
    "secrets": {"kinds": ["KEY"]},
    "language": {"languages": ["en"], "fewest_letters": 20},
    "topics": {"allowed": {"tea": ["How long is tea steeped?"]}, "denied": {"law": ["May I sue?"]}},
    "intent": {"supported": {"tea": ["How long is tea steeped?"]}, "unsupported": {"booking": ["Book me a flight"]}},
}


def yaml_of(rule: dict[str, Any]) -> str:
    return repr({"name": "p", "rules": [rule]}).replace("'", '"').replace("True", "true").replace("False", "false")


def test_the_registry_and_guardrails_know_the_same_checks() -> None:
    assert list(registry.CHECKS.items()) == list(guardrails.CHECKS.items())


@pytest.mark.parametrize("check", [name for name in guardrails.CHECKS if name != "moderation"])
def test_every_option_that_the_registry_takes_is_taken_by_the_check(check: str) -> None:
    options = OPTIONS.get(check, {})
    assert set(options) == set(registry.CHECKS[check]["options"])  # type: ignore[call-overload] # a mapping, in this table
    stages: Any = registry.CHECKS[check]["stages"]
    for stage in stages:
        rule = {"check": check, "stage": stage, "action": "flag", "options": options}
        document, faults = guards_from_yaml(yaml_of(rule))
        assert faults + faults_of_guards(document, problem_of) == []
        plan_of(ParseDict(document, guards_pb2.GuardPolicy()), catalogue())


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"check": "nonsense", "stage": "input", "action": "flag"}, "nonsense"),
        ({"check": "canary", "stage": "input", "action": "flag"}, "stage"),
        ({"check": "pii", "stage": "input", "action": "flag", "threshold": 2}, "threshold"),
        ({"check": "pii", "stage": "input"}, "action"),
        ({"check": "pii", "stage": "input", "action": "flag", "options": {"nonsense": 1}}, "nonsense"),
        ({"check": "patterns", "stage": "input", "action": "flag"}, "patterns"),
        ({"check": "patterns", "stage": "input", "action": "flag", "options": {"patterns": ["(a"]}}, "patterns"),
        ({"check": "patterns", "stage": "input", "action": "flag", "options": {"patterns": ["(?=a)a"]}}, "patterns"),
    ],
)
def test_what_guardrails_cannot_run_the_registry_refuses(rule: dict[str, Any], named: str) -> None:
    document, faults = guards_from_yaml(yaml_of(rule))
    assert any(named in fault for fault in faults + faults_of_guards(document, problem_of))
    with pytest.raises(Invalid, match=named):
        plan_of(ParseDict(document, guards_pb2.GuardPolicy()), catalogue())


def test_a_kind_of_personal_data_that_there_is_not_is_named() -> None:
    message = guards_pb2.GuardPolicy(name="p", anonymise=["NONSENSE"])
    with pytest.raises(Invalid, match="anonymise"):
        plan_of(message, catalogue())
