"""What has become known of one answer so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from anabranch_gateway.domain.answers import ZERO, Citation, Finished, Found, Generated, Timings
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.domain.questions import Question, Turn
from anabranch_gateway.domain.routing import Choice


@dataclass(slots=True, kw_only=True)
class Course:
    """One answer on its way: each stage reads what those before it have left, and adds its own."""

    answer_id: str
    caller: Caller
    question: Question
    labels: Sequence[str]
    choice: Choice
    began: float
    clock: Callable[[], float]
    # The name that the session is kept under; empty: there is none.
    session: bytes = b""
    history: Sequence[Turn] = ()
    # What the index is asked.
    query: str = ""
    found: Found | None = None
    ranks_randomised: bool = False
    pieces: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    generated: Generated | None = None
    condense: timedelta = ZERO
    generate: timedelta = ZERO
    first_token: timedelta = ZERO

    @property
    def text(self) -> str:
        """The answer so far, as it was shown."""
        return "".join(self.pieces)

    def since(self, start: float) -> timedelta:
        """Time gone since a moment of the clock."""
        return timedelta(seconds=self.clock() - start)

    def finished(self) -> Finished:
        """The end of it; only after generation."""
        found, generated = self.found, self.generated
        assert found is not None  # noqa: S101  the pipeline has passed retrieval
        assert generated is not None  # noqa: S101  and generation
        return Finished(
            usage=generated.usage,
            timings=Timings(
                condense=self.condense,
                embed=found.embed_time,
                search=found.search_time,
                generate=self.generate,
                first_token=self.first_token,
                total=self.since(self.began),
            ),
            abstained=generated.abstained,
            citations=tuple(self.citations),
            reason=generated.reason,
        )
