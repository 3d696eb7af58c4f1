"""What a policy tells a check, read with care: every fault names the option it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from anabranch_faults import Invalid
from anabranch_guardrails.application.ports import Check

__all__ = ["Factory", "Options"]

Factory: TypeAlias = Callable[[Mapping[str, object]], Check]
"""Makes a check as a policy wants it. Raises Invalid that names `options.<key>`."""
_MOST_ENTRIES: Final = 1_000
_LONGEST: Final = 4_096


class Options:
    """The options of one rule; what is not among `known` is refused."""

    def __init__(self, given: Mapping[str, object], *, known: Iterable[str] = ()) -> None:
        """Raises Invalid for an option that the check does not have."""
        self._given = given
        allowed = sorted(known)
        for key in given:
            if key not in allowed:
                raise self.fault(key, f"is not an option here; there are: {', '.join(allowed) or 'none'}")

    @staticmethod
    def fault(key: str, problem: str) -> Invalid:
        """The refusal of an option."""
        return Invalid(problem, field=f"options.{key}", reason="BAD_OPTION")

    def has(self, key: str) -> bool:
        """Whether the policy says anything about it."""
        return self._given.get(key) is not None

    def texts(self, key: str, *, default: Sequence[str] = ()) -> tuple[str, ...]:
        """A list of texts, none of them empty."""
        if not self.has(key):
            return tuple(default)
        return self._listed(key, self._given[key])

    def groups(self, key: str) -> dict[str, tuple[str, ...]]:
        """Lists of texts by name."""
        if not self.has(key):
            return {}
        given = self._given[key]
        if not isinstance(given, Mapping):
            raise self.fault(key, "must be lists by name")
        return {str(name): self._listed(f"{key}.{name}", listed) for name, listed in given.items()}

    def number(self, key: str, *, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        if not self.has(key):
            return default
        given = self._given[key]
        if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
            raise self.fault(key, f"must be a number from {low:g} to {high:g}")
        return float(given)

    def whole(self, key: str, *, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        found = self.number(key, default=float(default), low=float(low), high=float(high))
        if found != int(found):
            raise self.fault(key, "must be a whole number")
        return int(found)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        if not self.has(key):
            return default
        given = self._given[key]
        if not isinstance(given, bool):
            raise self.fault(key, "must be true or false")
        return given

    def chosen(self, key: str, *, among: Sequence[str], default: Sequence[str]) -> frozenset[str]:
        """Some of the texts that there are, in any case of letters."""
        found = frozenset(text.upper() for text in self.texts(key, default=default))
        for unknown in sorted(found - set(among)):
            raise self.fault(key, f"has no {unknown}; there are: {', '.join(among)}")
        if not found:
            raise self.fault(key, "must not be empty")
        return found

    def _listed(self, key: str, given: object) -> tuple[str, ...]:
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise self.fault(key, "must be a list of texts")
        if len(given) > _MOST_ENTRIES:
            raise self.fault(key, f"must have at most {_MOST_ENTRIES} entries")
        for one in given:
            if not isinstance(one, str) or not one.strip() or len(one) > _LONGEST:
                raise self.fault(key, f"must be a list of texts of 1 to {_LONGEST} characters")
        return tuple(str(one) for one in given)
