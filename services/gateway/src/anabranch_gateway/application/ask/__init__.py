"""The Ask pipeline: choose a variant, check, condense, retrieve, check, generate and check, write down.

`pipeline.AskQuestion` is the order of things; each stage is an object of its own that reads and writes one `Course`:

| stage | module | leaves in the course |
| --- | --- | --- |
| `Conversation` | `conversation` | the turns before, and the question made to stand alone |
| `Finding` | `finding` | passages, in the order shown |
| `Guarding` | `guarding` | verdicts, what may be shown, and what may leave for a model |
| `Reusing` | `reusing` | an answer that was given before, or what is to be learned from a new one |
| `Paying` | `paying` | how long the answer may become, and what it cost |
| `Writing` | `writing` | text, citations, what the model says of itself |
| `Keeping` | `keeping` | (the session and the record) |

A stage that holds something over generation is an async context manager around it: a caller who leaves, and any fault,
gives it back.
"""

from __future__ import annotations

from anabranch_gateway.application.ask.conversation import Conversation, session_of
from anabranch_gateway.application.ask.course import Course
from anabranch_gateway.application.ask.finding import Finding
from anabranch_gateway.application.ask.guarding import Guarding
from anabranch_gateway.application.ask.keeping import Keeping
from anabranch_gateway.application.ask.paying import Paying
from anabranch_gateway.application.ask.pipeline import AskQuestion
from anabranch_gateway.application.ask.reusing import Reusing
from anabranch_gateway.application.ask.writing import Writing

__all__ = [
    "AskQuestion",
    "Conversation",
    "Course",
    "Finding",
    "Guarding",
    "Keeping",
    "Paying",
    "Reusing",
    "Writing",
    "session_of",
]
