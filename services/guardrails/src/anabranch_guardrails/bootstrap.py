"""The composition root: the one file that names concrete classes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from anabranch.registry.v1 import guards_pb2
from anabranch_bus import Bus
from anabranch_guardrails.adapters.blocked import BusBlockedRecord
from anabranch_guardrails.adapters.catalogue import catalogue as all_checks
from anabranch_guardrails.adapters.moderation import ModerationEndpoint
from anabranch_guardrails.adapters.onnx_model import OnnxModel
from anabranch_guardrails.adapters.personal.vault import Restorer
from anabranch_guardrails.adapters.telemetry import Observed
from anabranch_guardrails.application.catalogue import Catalogue, look_once
from anabranch_guardrails.application.checking import CheckTexts
from anabranch_guardrails.application.policies import Policies
from anabranch_guardrails.application.running import Runner
from anabranch_guardrails.application.streaming import CheckAnswers
from anabranch_guardrails.application.workers import Workers
from anabranch_guardrails.entrypoints import kafka, rpc
from anabranch_guardrails.entrypoints.policies import built_in
from anabranch_guardrails.settings import Settings
from anabranch_runtime import Service

__all__ = ["build"]

MESSAGE_BYTES: Final = 24 * 1024 * 1024
FLUSH: Final = timedelta(milliseconds=1_800)  # the runtime gives a draining step two seconds


def build(settings: Settings, *, bus: Bus, catalogue: Catalogue | None = None) -> Service:
    """Wires the service; starts nothing. `catalogue` takes the place of this build's checks, in tests."""
    moderation = None
    if settings.moderation_url:
        key = settings.moderation_key.get_secret_value()
        moderation = ModerationEndpoint(settings.moderation_url, model=settings.moderation_model, key=key)
    model = OnnxModel(settings.moderation_onnx) if settings.moderation_onnx is not None else None
    checks = catalogue or all_checks(moderation, model=model, moderation_threshold=settings.moderation_threshold)
    telemetry = Observed()
    record = BusBlockedRecord(bus, capacity=settings.blocked_waiting)
    workers = Workers(threads=settings.workers, waiting=settings.texts_waiting, abandoned=telemetry.abandoned)
    runner = Runner(workers=workers, telemetry=telemetry)
    told: dict[str, guards_pb2.GuardPolicy] = {}
    plan, message = built_in(checks)
    told[plan.policy.version] = message
    policies = Policies(plan)
    kafka.register(bus, policies=policies, catalogue=checks, told=told, telemetry=telemetry)
    check = CheckTexts(
        policies=policies,
        catalogue=checks,
        runner=runner,
        record=record,
        telemetry=telemetry,
        remembered=settings.passages_remembered,
    )
    answers = CheckAnswers(
        policies=policies,
        runner=runner,
        record=record,
        telemetry=telemetry,
        restorer=Restorer,
        at_once=settings.streams_at_once,
    )

    async def warm() -> None:
        await asyncio.to_thread(look_once, plan)

    async def flush() -> None:
        await record.flush(FLUSH)

    async def close() -> None:
        workers.close()
        if moderation is not None:
            await moderation.close()

    return Service(
        name="guardrails",
        bus=bus,
        rpc=[rpc.servicer(check=check, answers=answers, policies=policies, catalogue=checks, told=told)],
        larger_messages={"Check": MESSAGE_BYTES},
        starting=[warm],
        background=[record.run],
        ready=[lambda: workers.ready],
        draining=[flush],
        closing=[close],
    )
