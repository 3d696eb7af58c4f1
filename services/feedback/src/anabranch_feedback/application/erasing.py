"""A person is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anabranch_feedback.application.ports import Clock, Codec, Ledger

_MOST = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """How much was forgotten."""

    feedbacks: int
    answers: int


class EraseUser:
    """Forgets what a person gave and asked, and tells everyone who keeps copies."""

    def __init__(self, *, ledger: Ledger, codec: Codec, clock: Clock) -> None:
        """Takes what it works on."""
        self._ledger = ledger
        self._codec = codec
        self._clock = clock

    async def __call__(self, tenant: str, user_id: str) -> Erased:
        """All of it in one transaction."""
        now = self._clock()
        async with self._ledger.transaction() as books:
            rows = await books.feedback_of(tenant, user_id)
            withdrawn = [
                replace(
                    row,
                    revision=row.revision + 1,
                    content=b"",
                    kind="",
                    verdict=0,
                    given_at=max(now, row.given_at),
                    joined_at=now,
                    told_by_event=False,
                    withdrawn=True,
                )
                for row in rows
                if row.joined_at is not None
            ]
            # The number of the revision stays, so that what the person may give later is not taken for older.
            await books.save(new=(), changed=[replace(row, user_id="", event_id="") for row in withdrawn])
            await books.remove([row.feedback_id for row in rows if row.joined_at is None])
            others = await books.feedback_on(tenant, user_id)
            causes: dict[str, bytes] = {}
            while kept := await books.asked_by(tenant, user_id, _MOST):
                emptied = [self._codec.emptied(one) for one in kept]
                await books.replace_answers(emptied)
                causes |= {one.answer_id: one.cause for one in emptied}
            # Whoever kept the cause of what others gave kept who had asked.
            again = [
                replace(row, revision=row.revision + 1, cause=causes[row.answer_id], joined_at=now, told_by_event=False)
                for row in others
                if row.answer_id in causes
            ]
            await books.save(new=(), changed=again)
            await books.tell([*withdrawn, *again])
        return Erased(feedbacks=len(rows), answers=len(causes))
