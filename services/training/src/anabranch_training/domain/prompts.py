"""The prompt of a model that is to be adapted: the one that generation sends by default.

The prompt that was really sent is not recorded. A test holds this one to generation's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from anabranch_prompts import ANSWER, render
from anabranch_training.domain.opinions import ShownPassage

__all__ = ["Message", "prompt_of"]

Message = dict[str, str]
"""`role` and `content`."""


def prompt_of(question: str, passages: Sequence[ShownPassage]) -> list[Message]:
    """System and user message. What is data stands in an envelope that differs from row to row, and never in time."""
    said = repr((question, [asdict(one) for one in passages]))
    rendered = render(
        ANSWER,
        question=question,
        contexts=[{"title": one.title, "text": one.text} for one in passages],
        boundary=hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()[:8],
    )
    return [{"role": "system", "content": rendered.system}, {"role": "user", "content": rendered.user}]
