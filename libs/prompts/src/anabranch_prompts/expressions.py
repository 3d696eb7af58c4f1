"""Expressions of a template as closures."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from jinja2 import nodes

from anabranch_prompts.filters import FILTERS, TESTS, before, same, text_of, within
from anabranch_prompts.running import (
    Broken,
    Expression,
    Missing,
    Names,
    Run,
    is_number,
    kind_of,
    number,
    worse,
)
from anabranch_prompts.values import MAX_RENDERED

MAX_RANGE: Final = 1_000
MAX_LIST: Final = 20_000
_FORBIDDEN: Final = "__"
_LENIENT: Final = frozenset(("default", "d"))
_ASKING: Final = frozenset(("defined", "undefined"))
_ARITHMETIC: Final[dict[type[nodes.Node], Callable[[Any, Any], Any]]] = {
    nodes.Sub: operator.sub,
    nodes.Mul: operator.mul,
    nodes.Div: operator.truediv,
    nodes.FloorDiv: operator.floordiv,
    nodes.Mod: operator.mod,
}
_COMPARED: Final[dict[str, Callable[[Run, Any, Any], bool]]] = {
    "eq": same,
    "ne": lambda run, one, other: not same(run, one, other),
    "lt": before,
    "gt": lambda run, one, other: before(run, other, one),
    "lteq": lambda run, one, other: not before(run, other, one),
    "gteq": lambda run, one, other: not before(run, one, other),
    "in": within,
    "notin": lambda run, one, other: not within(run, one, other),
}


@dataclass(frozen=True, slots=True)
class Expressions:
    """Makes closures. `name` is told every name that is used, and its line."""

    name: Callable[[str, int], None]

    def of(self, node: nodes.Node, *, lenient: bool = False) -> Expression:
        """The closure of a node; lenient: what is not there is Missing instead of an end."""
        kind = type(node)
        if kind in _ARITHMETIC:
            return self._arithmetic(node)
        make = _EXPRESSIONS.get(kind)
        if make is None:
            raise Broken(f"uses `{kind.__name__.lower()}`, which templates here do not have", line=node.lineno)
        if kind in _LOOKING_UP:
            looked_up: Expression = make(self, node, lenient)
            return looked_up
        made: Expression = make(self, node)
        return made

    def _several(self, items: Sequence[nodes.Node]) -> list[Expression]:
        return [self.of(item) for item in items]

    def constant(self, node: nodes.Const) -> Expression:
        """A value that stands in the template."""
        value = node.value
        if is_number(value):
            number(value)
        elif not isinstance(value, str | bool) and value is not None:
            raise Broken("holds what is no value of JSON", line=node.lineno)
        return lambda _, __: value

    def named(self, node: nodes.Name, lenient: bool) -> Expression:  # noqa: FBT001  one signature for all that look up
        """A name."""
        wanted, line = node.name, node.lineno
        self.name(wanted, line)

        def named(run: Run, names: Names) -> Any:
            run.spend()
            if wanted in names:
                return names[wanted]
            if lenient:
                return Missing(wanted, wanted)
            raise Broken(f"{wanted!r} is undefined", line=line, name=wanted)

        return named

    def field(self, node: nodes.Getattr, lenient: bool) -> Expression:  # noqa: FBT001  as above
        """An entry of a map, by a dot."""
        return self._looked_up(self.of(node.node, lenient=lenient), _field_name(node.attr, node), node, lenient=lenient)

    def item(self, node: nodes.Getitem, lenient: bool) -> Expression:  # noqa: FBT001  as above
        """An item, or a slice."""
        inside = self.of(node.node, lenient=lenient)
        if isinstance(node.arg, nodes.Slice):
            return self._sliced(inside, node.arg)
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self._looked_up(inside, _field_name(node.arg.value, node), node, lenient=lenient)
        at, line = self.of(node.arg), node.lineno

        def item(run: Run, names: Names) -> Any:
            value, key = inside(run, names), at(run, names)
            run.spend()
            if isinstance(value, Missing):
                return value
            if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool):
                if -len(value) <= key < len(value):
                    return value[key]
            elif isinstance(value, dict) and isinstance(key, str):
                if key in value:
                    return value[key]
            else:
                raise Broken(f"{kind_of(value)} has no items by {kind_of(key)}", line=line)
            if lenient:
                return Missing(str(key)[:64], "")
            raise Broken(f"has no item {str(key)[:64]!r}", line=line)

        return item

    def _looked_up(self, inside: Expression, wanted: str, node: nodes.Node, *, lenient: bool) -> Expression:
        line = node.lineno
        root = _root(node)

        def field(run: Run, names: Names) -> Any:
            value = inside(run, names)
            run.spend()
            if isinstance(value, dict) and wanted in value:
                return value[wanted]
            if isinstance(value, Missing):
                return value
            if lenient and isinstance(value, dict):
                return Missing(wanted, root)
            if isinstance(value, dict):
                raise Broken(f"{wanted!r} is undefined", line=line, name=wanted if root == "variables" else "")
            raise Broken(f"{kind_of(value)} has no field {wanted!r}", line=line)

        return field

    def _sliced(self, inside: Expression, node: nodes.Slice) -> Expression:
        bounds = [None if part is None else self.of(part) for part in (node.start, node.stop, node.step)]
        line = node.lineno

        def sliced(run: Run, names: Names) -> Any:
            value = inside(run, names)
            if not isinstance(value, str | list):
                raise Broken(f"{kind_of(value)} cannot be sliced", line=line)
            parts = [None if bound is None else bound(run, names) for bound in bounds]
            if not all(part is None or (isinstance(part, int) and not isinstance(part, bool)) for part in parts):
                raise Broken("is sliced by what are no whole numbers", line=line)
            if parts[2] == 0:
                raise Broken("is sliced by a step of 0", line=line)
            run.spend(1 + len(value) // 64)
            cut = value[slice(*parts)]
            return type(value)(cut) if isinstance(value, str) else cut

        return sliced

    def filtered(self, node: nodes.Filter) -> Expression:
        """A filter."""
        if node.node is None:
            raise Broken("uses a block of a filter, which templates here do not have", line=node.lineno)
        function = FILTERS.get(node.name)
        if function is None:
            raise Broken(f"there is no filter {node.name[:64]!r}; there are: {', '.join(FILTERS)}", line=node.lineno)
        value = self.of(node.node, lenient=node.name in _LENIENT)
        arguments, named = self._arguments(node, function)
        line = node.lineno

        def filtered(run: Run, names: Names) -> Any:
            run.spend(2)
            try:
                made = function(
                    run,
                    value(run, names),
                    *[one(run, names) for one in arguments],
                    **{key: one(run, names) for key, one in named.items()},
                )
            except TypeError as error:  # what cannot be ordered or added
                raise Broken(f"cannot be handled: {error}", line=line) from error
            return _bounded(made, line)

        return filtered

    def tested(self, node: nodes.Test) -> Expression:
        """A test."""
        function = TESTS.get(node.name)
        if function is None:
            raise Broken(f"there is no test {node.name[:64]!r}; there are: {', '.join(TESTS)}", line=node.lineno)
        value = self.of(node.node, lenient=node.name in _ASKING)
        arguments, named = self._arguments(node, function)
        if named:
            raise Broken(f"the test {node.name} takes no names", line=node.lineno)

        def tested(run: Run, names: Names) -> bool:
            run.spend()
            return function(run, value(run, names), *[one(run, names) for one in arguments])

        return tested

    def _arguments(
        self, node: nodes.Filter | nodes.Test, function: Callable[..., Any]
    ) -> tuple[list[Expression], dict[str, Expression]]:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise Broken("spreads arguments, which templates here do not", line=node.lineno)
        arguments = self._several(node.args)
        named = {str(pair.key): self.of(pair.value) for pair in node.kwargs}
        try:
            _signature(function).bind(None, None, *arguments, **named)
        except TypeError as error:
            raise Broken(f"{node.name} cannot be called like this: {error}", line=node.lineno) from error
        return arguments, named

    def call(self, node: nodes.Call) -> Expression:
        """A range: the one call there is."""
        if not (isinstance(node.node, nodes.Name) and node.node.name == "range") or node.kwargs or node.dyn_args:
            raise Broken("calls something; templates here call nothing but range", line=node.lineno)
        if not 1 <= len(node.args) <= 3:  # noqa: PLR2004  start, stop, step
            raise Broken("range takes one to three numbers", line=node.lineno)
        arguments, line = self._several(node.args), node.lineno

        def ranged(run: Run, names: Names) -> list[int]:
            bounds = [one(run, names) for one in arguments]
            if not all(isinstance(one, int) and not isinstance(one, bool) for one in bounds) or bounds[2:] == [0]:
                raise Broken("range takes whole numbers, and no step of 0", line=line)
            numbers = range(*bounds)
            if len(numbers) > MAX_RANGE:
                raise Broken(f"range gives more than {MAX_RANGE} numbers: it is too big", line=line, size=True)
            run.spend(1 + len(numbers) // 8)
            return list(numbers)

        return ranged

    def compared(self, node: nodes.Compare) -> Expression:
        """A chain of comparisons."""
        first = self.of(node.expr)
        others = [(_COMPARED[operand.op], self.of(operand.expr)) for operand in node.ops]

        def compared(run: Run, names: Names) -> bool:
            one = first(run, names)
            for test, expression in others:
                other = expression(run, names)
                if not test(run, one, other):
                    return False
                one = other
            return True

        return compared

    def both(self, node: nodes.And) -> Expression:
        """And."""
        left, right = self.of(node.left), self.of(node.right)
        return lambda run, names: left(run, names) and right(run, names)

    def either(self, node: nodes.Or) -> Expression:
        """Or."""
        left, right = self.of(node.left), self.of(node.right)
        return lambda run, names: left(run, names) or right(run, names)

    def negated(self, node: nodes.Not) -> Expression:
        """Not."""
        inside = self.of(node.node)
        return lambda run, names: not inside(run, names)

    def chosen(self, node: nodes.CondExpr) -> Expression:
        """One or the other."""
        test, one = self.of(node.test), self.of(node.expr1)
        other = self.of(node.expr2) if node.expr2 is not None else (lambda _, __: "")
        return lambda run, names: one(run, names) if test(run, names) else other(run, names)

    def listed(self, node: nodes.List | nodes.Tuple) -> Expression:
        """A list."""
        items = self._several(node.items)

        def listed(run: Run, names: Names) -> list[Any]:
            run.spend(1 + len(items))
            return [item(run, names) for item in items]

        return listed

    def mapped(self, node: nodes.Dict) -> Expression:
        """A map."""
        pairs = [(self.of(pair.key), self.of(pair.value)) for pair in node.items]
        line = node.lineno

        def mapped(run: Run, names: Names) -> dict[str, Any]:
            run.spend(1 + len(pairs))
            made = {}
            for key, value in pairs:
                name = key(run, names)
                if not isinstance(name, str):
                    raise Broken("has a map whose keys are no texts", line=line)
                made[name] = value(run, names)
            return made

        return mapped

    def joined(self, node: nodes.Concat) -> Expression:
        """Texts after another."""
        parts, line = self._several(node.nodes), node.lineno

        def joined(run: Run, names: Names) -> str:
            texts = [text_of(run, part(run, names), "~") for part in parts]
            return _added(run, texts, line)

        return joined

    def added(self, node: nodes.Add) -> Expression:
        """A sum of numbers, texts or lists."""
        left, right, line = self.of(node.left), self.of(node.right), node.lineno

        def added(run: Run, names: Names) -> Any:
            one, other = left(run, names), right(run, names)
            run.spend()
            if is_number(one) and is_number(other):
                return number(one + other)
            if isinstance(one, str) and isinstance(other, str):
                return _added(run, [one, other], line)
            if isinstance(one, list) and isinstance(other, list):
                run.spend((len(one) + len(other)) // 16)
                return _bounded(one + other, line)
            raise Broken(f"{kind_of(one)} and {kind_of(other)} cannot be added", line=line)

        return added

    def signed(self, node: nodes.Neg | nodes.Pos) -> Expression:
        """A number with a sign."""
        inside, sign, line = self.of(node.node), -1 if isinstance(node, nodes.Neg) else 1, node.lineno

        def signed(run: Run, names: Names) -> float:
            value = inside(run, names)
            if not is_number(value):
                raise Broken(f"{kind_of(value)} has no sign", line=line)
            made: float = sign * value
            return made

        return signed

    def _arithmetic(self, node: Any) -> Expression:
        left, right, line = self.of(node.left), self.of(node.right), node.lineno
        reckon = _ARITHMETIC[type(node)]

        def arithmetic(run: Run, names: Names) -> float:
            one, other = left(run, names), right(run, names)
            run.spend()
            if not is_number(one) or not is_number(other):
                raise Broken(f"reckons with {kind_of(one)} and {kind_of(other)}; only numbers can be", line=line)
            try:
                return number(reckon(one, other))
            except ZeroDivisionError:
                raise Broken("has a division by 0", line=line) from None

        return arithmetic


_EXPRESSIONS: Final[dict[type[nodes.Node], Callable[..., Expression]]] = {
    nodes.Const: Expressions.constant,
    nodes.Name: Expressions.named,
    nodes.Getattr: Expressions.field,
    nodes.Getitem: Expressions.item,
    nodes.Filter: Expressions.filtered,
    nodes.Test: Expressions.tested,
    nodes.Call: Expressions.call,
    nodes.Compare: Expressions.compared,
    nodes.And: Expressions.both,
    nodes.Or: Expressions.either,
    nodes.Not: Expressions.negated,
    nodes.CondExpr: Expressions.chosen,
    nodes.List: Expressions.listed,
    nodes.Tuple: Expressions.listed,
    nodes.Dict: Expressions.mapped,
    nodes.Concat: Expressions.joined,
    nodes.Add: Expressions.added,
    nodes.Neg: Expressions.signed,
    nodes.Pos: Expressions.signed,
}
_LOOKING_UP: Final = frozenset((nodes.Name, nodes.Getattr, nodes.Getitem))


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _field_name(name: str, node: nodes.Node) -> str:
    if name.startswith(_FORBIDDEN):
        raise Broken(f"asks for {name[:64]!r}, which is unsafe", line=node.lineno)
    return name


def _root(node: nodes.Node) -> str:
    """The name right before the field."""
    inside = node.node if isinstance(node, nodes.Getattr | nodes.Getitem) else None
    return inside.name if isinstance(inside, nodes.Name) else ""


def _added(run: Run, texts: Sequence[str], line: int) -> str:
    if sum(map(len, texts)) > MAX_RENDERED:
        raise Broken(f"makes a text of more than {MAX_RENDERED} characters", line=line, size=True)
    kind: type[str] = str
    for text in texts:
        run.read(text)
        kind = worse(kind, type(text))
    return kind("".join(texts))


def _bounded(value: Any, line: int) -> Any:
    if isinstance(value, str) and len(value) > MAX_RENDERED:
        raise Broken(f"makes a text of more than {MAX_RENDERED} characters", line=line, size=True)
    if isinstance(value, list) and len(value) > MAX_LIST:
        raise Broken(f"makes a list of more than {MAX_LIST} items", line=line, size=True)
    return value
