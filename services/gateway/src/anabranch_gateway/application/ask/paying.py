"""What an answer may cost, and what it did."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from anabranch_faults import Fault, Invalid
from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.estimating import Estimator
from anabranch_gateway.application.metering import Meter
from anabranch_gateway.application.ports import Plans
from anabranch_gateway.application.spending import Purse, Reservation
from anabranch_gateway.domain.answers import FinishReason, Usage
from anabranch_gateway.domain.costs import ModelCall, Payer, Plan, Purpose
from anabranch_gateway.domain.spending import Payer as Spender

CONDENSED_TOKENS = 128
"""What a question that is made to stand alone comes to at most, as generation bounds it."""
CHARACTERS_A_TOKEN = 4
"""Of a call that broke off before anybody counted."""


@dataclass(slots=True)
class _Made:
    """Calls that were made; None: nobody knows."""

    calls: Sequence[ModelCall] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """Takes places and money before models are called, and settles and meters what they were called for.

    `plans` says which models a variant may call. What is put aside for an answer bounds how long it may become.
    """

    purse: Purse
    meters: Meter
    plans: Plans
    estimator: Estimator = field(default_factory=Estimator)

    def admitted(self, course: Course) -> AbstractAsyncContextManager[None]:
        """Holds the answer's places. Raises Spent; Unreachable while quotas cannot be read and the purse is closed."""
        return self.purse.admitted(course.answer_id, _spender(course))

    @asynccontextmanager
    async def condensing(self, course: Course) -> AsyncIterator[None]:
        """Around the making of a question that stands alone; a call of its own. Raises as `admitted`."""
        texts = (course.model_asked, *(turn.text for turn in course.model_history))
        reservation = await self._reserved(course, "condense", texts, most=CONDENSED_TOKENS)
        async with self._settled(reservation) as made:
            yield
            made.calls = [course.condensing] if course.condensing is not None else []

    @asynccontextmanager
    async def writing(self, course: Course) -> AsyncIterator[None]:
        """Around the writing of the answer. Raises as `admitted`."""
        texts = (
            course.model_query,
            *(turn.text for turn in course.model_history),
            *(_read(passage) for passage in course.model_passages),
            json.dumps(course.question.response_schema or "", ensure_ascii=False),
        )
        reservation = await self._reserved(course, "answer", texts, most=0)
        async with self._settled(reservation) as made:
            try:
                yield
            finally:
                if (generated := course.generated) is not None:
                    made.calls = generated.calls
                elif course.draft:
                    course.broken = await self._broken(course, texts)
        if generated is not None and generated.calls:
            self.estimator.observe(
                variant_id=course.choice.variant.variant_id,
                model=generated.model,
                completion_tokens=generated.usage.completion_tokens,
                cut=generated.reason is FinishReason.LENGTH,
            )

    async def meter(self, course: Course) -> None:
        """Prices the answer's calls and has them written down; what they come to goes into the course."""
        question = course.question
        payer = Payer(
            answer_id=course.answer_id,
            tenant=course.caller.tenant,
            corpus=question.corpus,
            key_id=course.caller.key_id,
            user_id=question.user_id,
            session_id=question.session_id,
            variant_id=course.choice.variant.variant_id,
        )
        course.cost = await self.meters.record(payer, course.calls)

    async def _reserved(self, course: Course, what: str, texts: Sequence[str], *, most: int) -> Reservation | None:
        spender = _spender(course)
        if not self.purse.quotas.of(spender).costs:
            return None
        plan = await self.plans.plan(course.choice.variant.generation)
        bounds = [each for each in (most, plan.max_tokens, course.question.max_tokens) if each]
        estimate = self.estimator.estimate(
            variant_id=course.choice.variant.variant_id,
            model=plan.models[-1][1],
            texts=(*texts, *plan.texts),
            max_tokens=min(bounds, default=0),
        )
        prices = [
            self.meters.prices.at_most(
                backend, model, prompt_tokens=estimate.prompt, completion_tokens=estimate.completion
            )
            for backend, model in plan.models
        ]
        known = [each for each in prices if each is not None]
        reservation = await self.purse.reserve(
            answer_id=f"{course.answer_id}/{what}",
            payer=spender,
            micros=sum(known) if len(known) == len(prices) else None,
            tokens=estimate.tokens * len(plan.models),
        )
        if reservation.bounded and not most:
            course.max_tokens = estimate.completion
        return reservation

    @asynccontextmanager
    async def _settled(self, reservation: Reservation | None) -> AsyncIterator[_Made]:
        """Settles by the calls that the block has named; what it was refused without a call is given back.

        Where it names none, because it ended in a fault or was left, nobody knows what was called and billed: that
        counts as it was put aside.
        """
        made = _Made()
        if reservation is None:
            yield made
            return
        try:
            yield made
        except Invalid:
            await self.purse.release(reservation)
            raise
        except BaseException:
            await self._settle(reservation, made.calls)
            raise
        await self._settle(reservation, made.calls)

    async def _settle(self, reservation: Reservation, calls: Sequence[ModelCall] | None) -> None:
        if calls is None:
            await self.purse.settle(reservation, micros=None, tokens=reservation.cost.tokens)
            return
        prices = [self.meters.prices.of(each.backend, each.model, each.usage).micros for each in calls]
        known = [each for each in prices if each is not None]
        tokens = sum(each.usage.prompt_tokens + each.usage.completion_tokens for each in calls)
        await self.purse.settle(reservation, micros=sum(known) if len(known) == len(prices) else None, tokens=tokens)

    async def _broken(self, course: Course, texts: Sequence[str]) -> Sequence[ModelCall]:
        """The call that broke off, with about as many tokens as were read and written until then.

        None where nobody can say now which model it was: the fault that it broke off with is the one to be told.
        """
        try:
            plan: Plan = await self.plans.plan(course.choice.variant.generation)
        except Fault:
            return []
        backend, model = plan.models[-1]
        usage = Usage(
            prompt_tokens=sum(map(len, (*texts, *plan.texts))) // CHARACTERS_A_TOKEN,
            completion_tokens=len("".join(course.draft)) // CHARACTERS_A_TOKEN,
        )
        return [ModelCall(backend=backend, model=model, usage=usage, purpose=Purpose.ANSWER, complete=False)]


def _spender(course: Course) -> Spender:
    question = course.question
    return Spender(
        tenant=course.caller.tenant,
        key_id=course.caller.key_id,
        user_id=question.user_id,
        session_id=question.session_id,
    )


def _read(passage: object) -> str:
    """A passage's words, as retrieval's contract has them."""
    text: str = getattr(passage, "text", "")
    title: str = getattr(passage, "title", "")
    return f"{title}\n{text}"
