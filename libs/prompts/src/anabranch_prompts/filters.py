"""The filters and tests that a template may use: all there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from anabranch_prompts.running import MAX_NUMBER, Broken, Missing, Run, is_number, kind_of, number, worse
from anabranch_prompts.values import MAX_RENDERED

Filter = Callable[..., Any]
_ELLIPSIS: Final = "..."
_MAX_INDENT: Final = 16


def text_of(run: Run, value: Any, name: str) -> str:
    """The value as text. Raises Broken for what is none."""
    if isinstance(value, list | dict) or value is None:
        raise Broken(f"{name} takes text, not {kind_of(value)}")
    return run.text(value)


def list_of(run: Run, value: Any, name: str) -> list[Any]:
    """The value as a list. Raises Broken for what is none."""
    if isinstance(value, dict):
        value = list(value)
    if not isinstance(value, list):
        raise Broken(f"{name} takes a list, not {kind_of(value)}")
    run.spend(1 + len(value))
    return value


def whole(value: Any, name: str, most: int = MAX_NUMBER) -> int:
    """The value as a whole number from 0 to `most`. Raises Broken."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise Broken(f"{name} takes a whole number from 0 to {most}", size=is_number(value))
    return value


def _on_text(change: Callable[[str], str]) -> Filter:
    def apply(run: Run, value: Any) -> str:
        text = text_of(run, value, "this filter")
        run.read(text)
        return type(text)(change(text))

    return apply


def _abs(_: Run, value: Any) -> float:
    if not is_number(value):
        raise Broken(f"abs takes a number, not {kind_of(value)}")
    size: float = abs(value)
    return size


def _default(_: Run, value: Any, default: Any = "", boolean: Any = False) -> Any:  # noqa: FBT002  Jinja's own signature
    return default if isinstance(value, Missing) or (boolean and not value) else value


def _length(run: Run, value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise Broken(f"length takes text, a list or a map, not {kind_of(value)}")
    run.spend()
    return len(value)


def _join(run: Run, value: Any, d: Any = "", attribute: Any = None) -> str:
    items = list_of(run, value, "join")
    if attribute is not None:
        items = [_attribute(item, attribute) for item in items]
    texts = [text_of(run, item, "join") for item in items]
    between = text_of(run, d, "join")
    if sum(map(len, texts)) + len(between) * len(texts) > MAX_RENDERED:
        raise Broken(f"joins to more than {MAX_RENDERED} characters", size=True)
    kind = type(between)
    for text in texts:
        run.read(text)
        kind = worse(kind, type(text))
    joined = between.join(texts)
    run.read(joined)
    return kind(joined)


def _replace(run: Run, value: Any, old: Any, new: Any) -> str:
    text, gone, come = (text_of(run, one, "replace") for one in (value, old, new))
    run.read(text)
    if not gone:
        raise Broken("replace takes the text to be replaced")
    found = text.count(gone)
    if len(text) + found * (len(come) - len(gone)) > MAX_RENDERED:
        raise Broken(f"replaces to more than {MAX_RENDERED} characters", size=True)
    run.spend(found)
    return worse(type(text), type(come))(text.replace(gone, come))


def _truncate(run: Run, value: Any, length: Any = 255, killwords: Any = False, end: Any = _ELLIPSIS) -> str:  # noqa: FBT002  Jinja's own signature
    text = text_of(run, value, "truncate")
    most, tail = whole(length, "truncate"), text_of(run, end, "truncate")
    if len(text) <= most:
        return text
    cut = text[: max(0, most - len(tail))]
    run.read(cut)
    if not killwords:
        cut = cut.rsplit(" ", 1)[0]
    return type(text)(cut + tail)


def _indent(run: Run, value: Any, width: Any = 4, first: Any = False) -> str:  # noqa: FBT002  Jinja's own signature
    text = text_of(run, value, "indent")
    blanks = " " * whole(width, "indent", _MAX_INDENT)
    run.spend(text.count("\n") + len(text) // 16)
    shifted = text.replace("\n", "\n" + blanks)
    return type(text)(blanks + shifted if first else shifted)


def _tojson(run: Run, value: Any, indent: Any = None) -> str:
    kind = run.weigh(value)
    width = None if indent is None else whole(indent, "tojson", _MAX_INDENT)
    written = kind(json.dumps(value, ensure_ascii=False, indent=width))
    run.read(written)
    return written


def _as_int(_: Run, value: Any, default: Any = 0) -> Any:
    try:
        return int(number(float(value)))
    except (TypeError, ValueError):
        return default


def _as_float(_: Run, value: Any, default: Any = 0.0) -> Any:
    try:
        return number(float(value))
    except (TypeError, ValueError):
        return default


def _round(_: Run, value: Any, precision: Any = 0) -> float:
    if not is_number(value):
        raise Broken(f"round takes a number, not {kind_of(value)}")
    return number(round(float(value), whole(precision, "round", 12)))


def _items(run: Run, value: Any) -> list[list[Any]]:
    if not isinstance(value, dict):
        raise Broken(f"items takes a map, not {kind_of(value)}")
    run.spend(1 + len(value))
    return [[key, inner] for key, inner in value.items()]


def _sort(run: Run, value: Any, reverse: Any = False, case_sensitive: Any = False, attribute: Any = None) -> list[Any]:  # noqa: FBT002  Jinja's own signature
    items = list_of(run, value, "sort")

    def key(item: Any) -> Any:
        by = item if attribute is None else _attribute(item, attribute)
        if isinstance(by, list | dict) or by is None:
            raise Broken(f"sort cannot order by {kind_of(by)}")
        run.weigh(by)
        return by.lower() if isinstance(by, str) and not case_sensitive else by

    run.spend(4 * len(items))
    return sorted(items, key=key, reverse=bool(reverse))


def _unique(run: Run, value: Any) -> list[Any]:
    seen: set[Any] = set()
    kept: list[Any] = []
    for item in list_of(run, value, "unique"):
        if isinstance(item, list | dict):
            raise Broken("unique takes a list of texts or numbers")
        run.weigh(item)
        if item not in seen:
            seen.add(item)
            kept.append(item)
    return kept


def _picked(which: Callable[[list[Any]], Any]) -> Filter:
    def apply(run: Run, value: Any) -> Any:
        items = list_of(run, value, "this filter")
        if not items:
            raise Broken("takes from a list that is empty")
        return which(items)

    return apply


def _reckoned(which: Callable[[list[Any]], float]) -> Filter:
    def apply(run: Run, value: Any, attribute: Any = None) -> float:
        items = list_of(run, value, "this filter")
        if attribute is not None:
            items = [_attribute(item, attribute) for item in items]
        if not all(is_number(item) for item in items):
            raise Broken("takes a list of numbers")
        return number(which(items)) if items else 0

    return apply


def _map(run: Run, value: Any, name: Any = None, attribute: Any = None) -> list[Any]:
    items = list_of(run, value, "map")
    if attribute is not None:
        return [_attribute(item, attribute) for item in items]
    change = FILTERS.get(name) if isinstance(name, str) else None
    if change is None or name == "map":
        raise Broken("map takes the name of a filter, or attribute='...'")
    return [change(run, item) for item in items]


def _chosen(*, wanted: bool, by_attribute: bool) -> Filter:
    def apply(run: Run, value: Any, *arguments: Any) -> list[Any]:
        items = list_of(run, value, "this filter")
        attribute, *rest = arguments if by_attribute else (None, *arguments)
        name, *others = rest or ("truthy",)
        test = TESTS.get(name) if isinstance(name, str) else None
        if test is None:
            raise Broken(f"there is no test {str(name)[:64]!r}")
        try:
            return [
                item
                for item in items
                if test(run, _attribute(item, attribute) if by_attribute else item, *others) is wanted
            ]
        except ValueError:  # from unpacking nothing
            raise Broken("takes the name of a field") from None

    return apply


def _attribute(item: Any, name: Any) -> Any:
    if not isinstance(item, dict) or not isinstance(name, str) or name not in item:
        raise Broken(f"{kind_of(item)} has no field {str(name)[:64]!r}")
    return item[name]


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


FILTERS: Final[Mapping[str, Filter]] = {
    "abs": _abs,
    "capitalize": _on_text(str.capitalize),
    "count": _length,
    "d": _default,
    "default": _default,
    "e": _on_text(_escape),
    "escape": _on_text(_escape),
    "first": _picked(lambda items: items[0]),
    "float": _as_float,
    "indent": _indent,
    "int": _as_int,
    "items": _items,
    "join": _join,
    "last": _picked(lambda items: items[-1]),
    "length": _length,
    "list": lambda run, value: list(list_of(run, value, "list")),
    "lower": _on_text(str.lower),
    "map": _map,
    "max": _reckoned(max),
    "min": _reckoned(min),
    "reject": _chosen(wanted=False, by_attribute=False),
    "rejectattr": _chosen(wanted=False, by_attribute=True),
    "replace": _replace,
    "reverse": lambda run, value: list_of(run, value, "reverse")[::-1],
    "round": _round,
    "select": _chosen(wanted=True, by_attribute=False),
    "selectattr": _chosen(wanted=True, by_attribute=True),
    "sort": _sort,
    "string": lambda run, value: run.text(value),
    "sum": _reckoned(sum),
    "title": _on_text(str.title),
    "tojson": _tojson,
    "trim": _on_text(str.strip),
    "truncate": _truncate,
    "unique": _unique,
    "upper": _on_text(str.upper),
    "wordcount": lambda run, value: len(text_of(run, value, "wordcount").split()),
}


def same(run: Run, one: Any, other: Any) -> bool:
    """Whether two values are equal."""
    run.weigh(one)
    run.weigh(other)
    return bool(one == other)


def before(run: Run, one: Any, other: Any) -> bool:
    """Whether one comes before the other. Raises Broken for what has no order."""
    run.weigh(one)
    run.weigh(other)
    if is_number(one) and is_number(other):
        return bool(one < other)
    if isinstance(one, str) and isinstance(other, str):
        return one < other
    raise Broken(f"{kind_of(one)} and {kind_of(other)} have no order")


def within(run: Run, one: Any, other: Any) -> bool:
    """Whether one stands in the other. Raises Broken for what holds nothing."""
    run.weigh(other)
    if isinstance(other, str):
        if not isinstance(one, str):
            raise Broken(f"{kind_of(one)} cannot stand in text")
        return one in other
    if not isinstance(other, list | dict):
        raise Broken(f"{kind_of(other)} holds nothing")
    run.weigh(one)
    if isinstance(one, list | dict) and isinstance(other, dict):
        return False
    return one in other


def _divisible(_: Run, value: Any, by: Any) -> bool:
    if not is_number(value) or not is_number(by) or not by:
        raise Broken("divisibleby takes two numbers, the second not 0")
    return bool(value % by == 0)


def _kind(*kinds: type) -> Callable[..., bool]:
    return lambda _, value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


TESTS: Final[Mapping[str, Callable[..., bool]]] = {
    "==": same,
    "boolean": _kind(bool),
    "defined": lambda _, value: not isinstance(value, Missing),
    "divisibleby": _divisible,
    "eq": same,
    "equalto": same,
    "even": lambda run, value: _divisible(run, value, 2),
    "false": lambda _, value: value is False,
    "float": _kind(float),
    "ge": lambda run, one, other: not before(run, one, other),
    "gt": lambda run, one, other: before(run, other, one),
    "in": within,
    "integer": _kind(int),
    "iterable": _kind(list, dict),
    "le": lambda run, one, other: not before(run, other, one),
    "lt": before,
    "mapping": _kind(dict),
    "ne": lambda run, one, other: not same(run, one, other),
    "none": lambda _, value: value is None,
    "number": _kind(int, float),
    "odd": lambda run, value: not _divisible(run, value, 2),
    "sequence": _kind(list),
    "string": _kind(str),
    "true": lambda _, value: value is True,
    "truthy": lambda _, value: bool(value),
    "undefined": lambda _, value: isinstance(value, Missing),
}
