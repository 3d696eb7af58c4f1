"""Policies and where they hold, as the registry tells them."""

from __future__ import annotations

from anabranch import topics
from anabranch.registry.v1 import guards_pb2 as pb
from anabranch_bus import Bus
from anabranch_faults import Invalid
from anabranch_guardrails.application.catalogue import Catalogue
from anabranch_guardrails.application.policies import BUILT_IN, Policies
from anabranch_guardrails.application.ports import Telemetry
from anabranch_guardrails.entrypoints.policies import plan_of
from anabranch_observability import gauge, get_logger
from anabranch_observability.names import guardrails as names

__all__ = ["register"]

log = get_logger()

_VERSION = "version/"
_SCOPE = "scope/"


def register(
    bus: Bus,
    *,
    policies: Policies,
    catalogue: Catalogue,
    told: dict[str, pb.GuardPolicy],
    telemetry: Telemetry,
) -> None:
    """Keeps `policies` as the registry last told it, and in `told` what it said.

    A policy that this build cannot take is refused: where one held before, that one goes on.
    """
    table = _Table(policies, catalogue, told, telemetry)

    @bus.table(topics.REGISTRY_POLICY_CHANGED)
    async def on_policy_changed(key: str, message: pb.PolicyChanged | None) -> None:
        if key.startswith(_VERSION):
            table.policy(key.removeprefix(_VERSION), message)
        elif key.startswith(_SCOPE):
            table.attachment(key.removeprefix(_SCOPE), message)
        else:
            telemetry.refused(key, "the key names neither a version nor a scope")
        gauge(names.POLICIES).set(len(policies))


class _Table:
    def __init__(
        self, policies: Policies, catalogue: Catalogue, told: dict[str, pb.GuardPolicy], telemetry: Telemetry
    ) -> None:
        self._policies = policies
        self._catalogue = catalogue
        self._told = told
        self._telemetry = telemetry

    def policy(self, version: str, message: pb.PolicyChanged | None) -> None:
        if message is None:
            self._policies.drop(version)
            self._told.pop(version, None)
            log.info(names.Log.POLICY_DROPPED, policy_version=version)
            return
        if message.WhichOneof("what") != "policy" or message.policy.policy_version != version or version == BUILT_IN:
            self._telemetry.refused(version, "the record is not the policy that its key names")
            return
        try:
            plan = plan_of(message.policy, self._catalogue)
        except Invalid as fault:
            self._telemetry.refused(version, str(fault))
            return
        self._policies.put(plan)
        self._told[version] = message.policy
        log.info(names.Log.POLICY_CHANGED, policy_version=version, rules=len(plan.policy.rules))

    def attachment(self, scope: str, message: pb.PolicyChanged | None) -> None:
        version, revision = "", 0
        if message is not None:
            if message.WhichOneof("what") != "attachment" or message.attachment.scope != scope:
                self._telemetry.refused(scope, "the record is not the attachment that its key names")
                return
            version, revision = message.attachment.policy_version, message.attachment.revision
        if self._policies.attach(scope, version):
            log.info(names.Log.ATTACHMENT_CHANGED, scope=scope, policy_version=version, revision=revision)
        else:
            advice = "the last good one goes on, if there was one; texts of this scope cannot be checked otherwise"
            log.error(names.Log.ATTACHMENT_WAITING, scope=scope, policy_version=version, advice=advice)
