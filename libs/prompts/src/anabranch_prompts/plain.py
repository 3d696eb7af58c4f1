"""JSON-like values, copied deep: all that a template ever sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from anabranch_faults import Invalid, TooLarge

MAX_DEPTH: Final = 16
MAX_VALUES: Final = 20_000
MAX_TEXT: Final = 1_048_576
_EXACT: Final = 2**53


class Data(str):
    """Text from outside: where it is put out, it is marked as data."""

    __slots__ = ()


class Label(Data):
    """Short text from outside that stands inside an attribute or a line: made harmless, without an envelope."""

    __slots__ = ()


def plain(value: object, *, field: str = "variables", text: type[str] = str) -> Any:
    """The value as str, int, float, bool, None, list and dict, with every string a `text`.

    Whole floats become ints, since JSON does not tell them apart. Raises Invalid or TooLarge, naming where.
    """
    return _Copy(text).of(value, field, 0)


class _Copy:
    def __init__(self, text: type[str]) -> None:
        self.text = text
        self.values = 0
        self.characters = 0

    def of(self, value: object, field: str, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise TooLarge(f"is nested over {MAX_DEPTH} deep or holds over {MAX_VALUES} values", field=field)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._string(value, field)
        if isinstance(value, int):
            if abs(value) > _EXACT:
                raise Invalid(f"is a number beyond {_EXACT}: send it as text", field=field)
            return int(value)
        if isinstance(value, float):
            return _number(value, field)
        if isinstance(value, Mapping):
            return {
                self._key(key, field): self.of(inner, f"{field}.{key!s:.64}", depth + 1) for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.of(inner, f"{field}[{at}]", depth + 1) for at, inner in enumerate(value)]
        raise Invalid(f"is a {type(value).__name__}; only JSON's values are taken", field=field, reason="NOT_JSON")

    def _string(self, value: str, field: str) -> str:
        self.characters += len(value)
        if self.characters > MAX_TEXT:
            raise TooLarge(f"holds more than {MAX_TEXT} characters", field=field)
        if not value.isascii():
            value = value.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is no text
        return self.text(value)

    def _key(self, key: object, field: str) -> str:
        if not isinstance(key, str):
            raise Invalid(f"has the key {key!r}; keys are text", field=field, reason="NOT_JSON")
        return self._string(key, field)


def _number(value: float, field: str) -> float | int:
    if not math.isfinite(value):
        raise Invalid(f"is {value}, which is no number of JSON", field=field, reason="NOT_JSON")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else float(value)
