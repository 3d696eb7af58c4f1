"""Taking feedback."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch_gateway.application.ports import Feedbacks
from anabranch_gateway.domain.feedback import Feedback, Given, event_id_of
from anabranch_gateway.domain.keys import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveFeedback:
    """Hands feedback on, as the caller's tenant."""

    feedbacks: Feedbacks

    async def __call__(self, caller: Caller, feedback: Feedback) -> Given:
        """Returns once it is stored.

        Raises NotFound for an answer that is not the tenant's, Invalid with the field at fault, TooOften past the
        person's limit, and Transient while the feedback service is away.
        """
        event_id = event_id_of(feedback, tenant=caller.tenant)
        return await self.feedbacks.give(caller.tenant, feedback, event_id=event_id)
