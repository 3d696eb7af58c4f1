"""A stand-in for guardrails: words that block, words that are taken out, words that stay here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeAlias

import grpc

from anabranch.guardrails.v1 import events_pb2 as events
from anabranch.guardrails.v1 import guardrails_service_pb2 as pb
from anabranch.guardrails.v1 import guardrails_service_pb2_grpc as stubs
from anabranch_gateway.testing.calls import Calls

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

POLICY: Final = "gp-test"
MESSAGE: Final = "That cannot be answered here."


class FakeGuardrails(stubs.GuardrailsServiceServicer):
    """Blocks, flags and redacts a text for a word in it; puts `[NAME_n]` for words that are to be anonymised.

    `hold` makes it wait, `fault` fail; a stream fails once `fault_after` pieces of it have come.
    """

    def __init__(self) -> None:
        """Starts anew."""
        self.renew()

    def renew(self) -> None:
        """Finds nothing, and has seen no call."""
        self.check = Calls()
        self.stream = Calls()
        self.blocks: dict[int, str] = {}
        self.redacts: dict[int, str] = {}
        self.flags: dict[int, str] = {}
        self.shadows: dict[int, str] = {}
        self.anonymises: Sequence[str] = ()
        self.marks = False
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.fault_after: int | None = None
        self.pieces: list[Any] = []
        self.ended: list[Any] = []

    async def Check(self, request: pb.CheckRequest, context: Context) -> pb.CheckResponse:  # noqa: ARG002, N802  the contract's name and signature
        """By its words."""
        self.check.note(request)
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.check.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        reply = pb.CheckResponse(policy_version=POLICY, mark_passages=self.marks, verdict=events.VERDICT_ALLOW)
        names: dict[str, str] = {}
        if request.stage in (events.STAGE_CONTEXT, events.STAGE_INGESTION) and request.passages:
            for place, passage in enumerate(request.passages):
                results = self._results(passage.text, request.stage)
                for result in results:
                    result.passage = place
                reply.results.extend(results)
                reply.passages.append(_heaviest(results))
            reply.verdict = max(reply.passages)
        else:
            reply.results.extend(self._results(request.text, request.stage))
            reply.verdict = _heaviest(reply.results)
            if reply.verdict == events.VERDICT_BLOCK:
                reply.message = MESSAGE
            else:
                reply.text = self._hidden(self._redacted(request.text, request.stage), names)
        if self.anonymises or any(self._redacted(each.text, request.stage) != each.text for each in request.passages):
            reply.anonymised.extend(
                self._hidden(self._redacted(each.text, request.stage), names) for each in request.passages
            )
        reply.vault.update({name: value for value, name in names.items()})
        return reply

    async def CheckStream(  # noqa: N802  the contract's name
        self,
        request_iterator: AsyncIterator[pb.CheckStreamRequest],
        context: Context,  # noqa: ARG002  the contract's signature
    ) -> AsyncIterator[pb.CheckStreamResponse]:
        """Releases whole words, with what their placeholders stand for."""
        try:
            opening = (await anext(request_iterator)).open
            self.stream.note(opening)
            whole, released = "", 0
            noted: set[str] = set()
            async for request in request_iterator:
                whole += request.text
                over = request.WhichOneof("part") == "end"
                (self.ended if over else self.pieces).append(request.end if over else request.text)
                await self._go_on()
                until = len(whole) if over else max(whole.rfind(" ") + 1, released)
                results = self._results(whole[:until], events.STAGE_OUTPUT)
                for result in results:
                    if result.check not in noted:
                        noted.add(result.check)
                        yield pb.CheckStreamResponse(noted=pb.Noted(verdict=result.verdict, result=result))
                verdict = _heaviest(results)
                if verdict != events.VERDICT_BLOCK and until > released:
                    yield pb.CheckStreamResponse(text=self._released(whole[released:until], opening))
                    released = until
                if over or verdict == events.VERDICT_BLOCK:
                    yield _checked(verdict, results)
                    return
            self.stream.cancelled += 1  # what was sent ended without an end
        except (asyncio.CancelledError, GeneratorExit):
            self.stream.cancelled += 1
            raise

    async def Resolve(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def ListChecks(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    def _results(self, text: str, stage: int) -> list[events.CheckResult]:
        found = []
        for check, words, verdict in (
            ("injection", self.blocks, events.VERDICT_BLOCK),
            ("secrets", self.redacts, events.VERDICT_REDACT),
            ("toxicity", self.flags, events.VERDICT_FLAG),
            ("topics", self.shadows, events.VERDICT_BLOCK),
        ):
            at = text.find(words[stage]) if stage in words else -1
            if at >= 0:
                result = events.CheckResult(check=check, version="1", score=1.0, verdict=verdict, reason=f"has {check}")
                result.status, result.shadow = events.CHECK_STATUS_OK, words is self.shadows
                result.spans.add(start=at, end=at + len(words[stage]), kind=check.upper(), score=1.0)
                found.append(result)
        return found

    async def _go_on(self) -> None:
        if self.fault is not None and self.fault_after is not None and len(self.pieces) >= self.fault_after:
            raise self.fault
        if self.hold is not None:
            await self.hold.wait()

    def _released(self, text: str, opening: pb.Open) -> str:
        text = self._redacted(text, events.STAGE_OUTPUT)
        for name, value in opening.vault.items():
            text = text.replace(name, value)
        return text

    def _redacted(self, text: str, stage: int) -> str:
        return text.replace(self.redacts[stage], "[SECRET]") if stage in self.redacts else text

    def _hidden(self, text: str, names: dict[str, str]) -> str:
        """Every check counts by itself, in the order in which words are met."""
        for value in sorted(self.anonymises, key=text.find):
            if value in text:
                text = text.replace(value, names.setdefault(value, f"[NAME_{len(names) + 1}]"))
        return text


def _heaviest(results: Sequence[events.CheckResult]) -> events.Verdict.ValueType:
    verdicts = [each.verdict for each in results if not each.shadow]
    order = (events.VERDICT_BLOCK, events.VERDICT_REDACT, events.VERDICT_FLAG)
    return next((each for each in order if each in verdicts), events.VERDICT_ALLOW)


def _checked(verdict: events.Verdict.ValueType, results: Sequence[events.CheckResult]) -> pb.CheckStreamResponse:
    message = MESSAGE if verdict == events.VERDICT_BLOCK else ""
    return pb.CheckStreamResponse(
        checked=pb.Checked(verdict=verdict, results=results, policy_version=POLICY, message=message)
    )
