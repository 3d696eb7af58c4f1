"""A follow-up becomes a question that stands alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from anabranch_faults import Transient
from anabranch_generation.application.ports import Backends, Rewriter
from anabranch_generation.domain import (
    MAX_QUESTION,
    Condensed,
    ModelCall,
    Settings,
    Turn,
    check_question,
    stand_alone,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condense:
    """Rewrites a follow-up into a question that stands alone: by the generator where it is one, else by rules."""

    backends: Backends
    rewriters: Mapping[str, Rewriter] = field(default_factory=dict)
    time: timedelta = timedelta(seconds=10)

    async def __call__(self, question: str, history: Sequence[Turn], settings: Settings) -> Condensed:
        """A question that needs no history. A generator that fails, or says nothing, leaves it to the rules."""
        check_question(question)
        name = self.backends.choose(settings.backend).info.name
        rewriter = self.rewriters.get(name)
        if not history:
            return Condensed(question, changed=False)
        if rewriter is None:
            return stand_alone(question, history)
        call: ModelCall | None = None
        written = ""
        try:
            async with asyncio.timeout(self.time.total_seconds()):
                rewritten = await rewriter.rewrite(question, history, settings)
            call = ModelCall(backend=name, model=rewritten.model, usage=rewritten.usage)
            written = " ".join(rewritten.text.split())
        except (Transient, TimeoutError):
            pass
        if written and len(written) <= MAX_QUESTION:
            return Condensed(written, changed=written != question, call=call)
        return replace(stand_alone(question, history), call=call)
