"""What may be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from anabranch_faults import Invalid, TooLarge
from anabranch_gateway.domain import names

TURNS: Final = 50
TURN_CHARACTERS: Final = 16_384
HITS: Final = 100
DEFAULT_HITS: Final = 10


class Role(IntEnum):
    """Who spoke; the numbers are the contract's."""

    UNSPECIFIED = 0
    USER = 1
    ASSISTANT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One utterance of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. Whatever breaks the contract raises Invalid with the field's name as the contract has it."""

    corpus: str
    question: str
    history: Sequence[Turn] = ()
    session_id: str = ""
    user_id: str = ""
    filters: Mapping[str, str] = field(default_factory=dict)
    acl: Sequence[str] = ()
    max_tokens: int = 0
    # The prompt's own variables, and the JSON schema that the answer is to satisfy (None: it is text).
    variables: Mapping[str, object] = field(default_factory=dict)
    response_schema: Mapping[str, object] | None = None
    # Whatever the answer cache holds.
    fresh: bool = False

    def __post_init__(self) -> None:
        """Checks every field."""
        names.corpus(self.corpus)
        names.question(self.question, field="question")
        names.handle(self.session_id, field="session_id")
        names.handle(self.user_id, field="user_id")
        names.metadata(self.filters, field="filters")
        names.document(self.variables, field="variables")
        names.document(self.response_schema or {}, field="response_schema")
        if self.history and self.session_id:
            raise Invalid("give history or session_id, not both", field="history", reason="EXCLUSIVE")
        if len(self.history) > TURNS:
            raise TooLarge(f"has {len(self.history)} turns; at most {TURNS} are taken", field="history")
        for position, turn in enumerate(self.history):
            if turn.role is Role.UNSPECIFIED:
                raise Invalid("must be user or assistant", field=f"history[{position}].role", reason="UNSPECIFIED")
            if not turn.text.strip():
                raise Invalid("is empty", field=f"history[{position}].text", reason="EMPTY")
            if len(turn.text) > TURN_CHARACTERS:
                raise TooLarge(
                    f"has {len(turn.text)} characters; at most {TURN_CHARACTERS} are taken",
                    field=f"history[{position}].text",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One search without an answer."""

    corpus: str
    query: str
    limit: int = DEFAULT_HITS
    filters: Mapping[str, str] = field(default_factory=dict)
    acl: Sequence[str] = ()
    user_id: str = ""

    def __post_init__(self) -> None:
        """Checks every field."""
        names.corpus(self.corpus)
        names.question(self.query, field="query")
        names.handle(self.user_id, field="user_id")
        names.metadata(self.filters, field="filters")
        if not 1 <= self.limit <= HITS:
            raise Invalid(f"must be 1 to {HITS}", field="limit", reason="OUT_OF_RANGE")
