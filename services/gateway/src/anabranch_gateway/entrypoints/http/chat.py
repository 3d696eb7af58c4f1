"""Chat completions as questions, and answers as chat completions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from anabranch_faults import Invalid
from anabranch_gateway.domain.questions import TURN_CHARACTERS, TURNS, Question, Role, Turn

T = TypeVar("T")

# What asks for a different kind of answer: refused, because leaving it out would be another answer than asked for.
REFUSED: Final = ("tools", "functions", "audio", "logprobs", "web_search_options")
# What is understood; everything else a caller sends is left out, and named in the answer's `anabranch.ignored`.
UNDERSTOOD: Final = frozenset(
    {
        *REFUSED,
        "acl",
        "filters",
        "fresh",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "response_format",
        "session_id",
        "stream",
        "stream_options",
        "user",
        "variables",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A question, and how its answer is wanted."""

    question: Question
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]


def chat_request(body: bytes) -> ChatRequest:
    """Reads a request. Raises Invalid with the parameter at fault.

    The last message is the question and must be the user's; what users and assistants said before it is history, of
    which the last 50 turns are taken. System messages are left out: what the model is told belongs to the variant.
    """
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid("the body is not JSON", reason="MALFORMED") from error
    if not isinstance(sent, dict):
        raise Invalid("the body is not a JSON object", reason="MALFORMED")
    for name in REFUSED:
        if sent.get(name):
            raise Invalid("is not supported: answers come from the corpus", field=name, reason="UNSUPPORTED")
    if sent.get("n") not in (None, 1):
        raise Invalid("must be 1", field="n", reason="UNSUPPORTED")
    turns, ignored = _turns(sent.get("messages"))
    if turns[-1].role is not Role.USER:
        raise Invalid("the last one must be from the user: it is the question", field="messages")
    question = Question(
        corpus=_text(sent.get("model"), "model"),
        question=turns[-1].text,
        history=turns[:-1][-TURNS:] if not sent.get("session_id") else turns[:-1],
        session_id=_text(sent.get("session_id") or "", "session_id"),
        user_id=_text(sent.get("user") or "", "user"),
        filters={key: _text(value, f"filters.{key}") for key, value in _object(sent, "filters").items()},
        acl=tuple(_text(each, "acl") for each in _of_type(sent.get("acl") or [], list, "acl", "a list")),
        max_tokens=_number(sent, "max_completion_tokens") or _number(sent, "max_tokens"),
        variables=_object(sent, "variables"),
        response_schema=_schema(sent),
        fresh=_of_type(sent.get("fresh") or False, bool, "fresh", "true or false"),
    )
    return ChatRequest(
        question=question,
        stream=_of_type(sent.get("stream") or False, bool, "stream", "true or false"),
        include_usage=bool(_object(sent, "stream_options").get("include_usage")),
        ignored=(*sorted(str(name)[:64] for name in sent.keys() - UNDERSTOOD)[:64], *ignored),
    )


def _turns(messages: Any) -> tuple[Sequence[Turn], Sequence[str]]:
    turns: list[Turn] = []
    ignored: list[str] = []
    if not isinstance(messages, list) or not messages:
        raise Invalid("must be a list of messages", field="messages", reason="MISSING")
    for position, message in enumerate(messages):
        at = f"messages[{position}]"
        message = _of_type(message, dict, at, "an object")  # noqa: PLW2901  the same value, of a known type
        match message.get("role"):
            case "user":
                role = Role.USER
            case "assistant":
                role = Role.ASSISTANT
            case "system" | "developer":
                ignored.append(at)
                continue
            case _:
                raise Invalid("must be system, developer, user or assistant", field=f"{at}.role")
        text = _content(message.get("content"), f"{at}.content")
        last = position == len(messages) - 1
        if text.strip() or last:
            # The question is checked in full later; what was said long ago may be cut.
            turns.append(Turn(role=role, text=text if last else text[:TURN_CHARACTERS]))
    if not turns:
        raise Invalid("has no message from the user", field="messages", reason="MISSING")
    return turns, ignored


def _content(content: Any, at: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return _text(content, at)
    texts: list[str] = []
    for position, part in enumerate(_of_type(content, list, at, "a string or a list of parts")):
        part = _of_type(part, dict, f"{at}[{position}]", "an object")  # noqa: PLW2901  the same value, of a known type
        if part.get("type") != "text":
            raise Invalid("only text is taken", field=f"{at}[{position}].type", reason="UNSUPPORTED")
        texts.append(_text(part.get("text"), f"{at}[{position}].text"))
    return "\n".join(texts)


def _text(value: Any, at: str) -> str:
    text = _of_type(value, str, at, "a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair, which is no character
        raise Invalid("holds half a character (a lone surrogate)", field=at, reason="INVALID_TEXT") from error
    return text


def _number(sent: Mapping[str, Any], name: str) -> int:
    value = sent.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise Invalid("must be a whole number of tokens", field=name, reason="OUT_OF_RANGE")
    return value


def _schema(sent: Mapping[str, Any]) -> Mapping[str, object] | None:
    """The JSON schema that `response_format` asks for; None for text."""
    wanted = _object(sent, "response_format")
    match wanted.get("type", "text"):
        case "text":
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            return _object(_object(wanted, "json_schema"), "schema")
        case _:
            raise Invalid("must be of type text, json_object or json_schema", field="response_format")


def _object(sent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _of_type(sent.get(name) or {}, dict, name, "an object")


def _of_type(value: Any, kind: type[T], at: str, called: str) -> T:
    if not isinstance(value, kind):
        raise Invalid(f"must be {called}", field=at, reason="MISSING" if value is None else "MALFORMED")
    return value
