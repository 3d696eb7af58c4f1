"""A template as a program of closures over JSON-like values: Jinja's syntax, read by its parser, and none of Python.

Nothing of a template becomes Python code or touches a Python object: a field is an entry of a map, a filter is one of
a short list, and every step is charged to the rendering. What is not named here does not exist: macros, blocks,
imports, calls (but `range`), powers, `%` on text and all of Jinja's globals are refused when the template is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from jinja2 import Environment, TemplateSyntaxError, nodes

from anabranch_prompts.expressions import Expressions
from anabranch_prompts.running import MAX_INCLUDED, Broken, Names, Run, Statement
from anabranch_prompts.values import MAX_TEMPLATE, WORD

MAX_TOKENS_READ: Final = 4_000
"""Names, marks and texts of a template: what reading it may take is bounded by them."""
_LOOP: Final = "loop"


@dataclass(frozen=True, slots=True)
class Program:
    """A template that was read. `free` are names it takes from outside, with the line of their first use."""

    run: Statement
    free: dict[str, int]
    includes: dict[str, int]


def read(source: str) -> Program:
    """Reads a template. Raises Broken, with the line, for what is none."""
    if len(source) > MAX_TEMPLATE:
        raise Broken(f"has {len(source)} characters; the limit is {MAX_TEMPLATE}", size=True)
    made = _read(source)
    if isinstance(made, Program):
        return made
    raise Broken(made.problem, line=made.line, size=made.size)


def forget() -> None:
    """Reads every template anew: for measurements."""
    _read.cache_clear()


@lru_cache(maxsize=512)
def _read(source: str) -> Program | Broken:
    environment = Environment(autoescape=False)  # noqa: S701  a model reads plain text; nothing of it is run by Jinja
    try:
        tokens = sum(
            1 for _ in zip(environment.lexer.tokeniter(source, None), range(MAX_TOKENS_READ + 1), strict=False)
        )
        if tokens > MAX_TOKENS_READ:
            raise Broken(f"has more than {MAX_TOKENS_READ} names and marks", size=True)  # noqa: TRY301  kept as it is below
        return _Reader().program(environment.parse(source))
    except Broken as broken:
        return broken.with_traceback(None)
    except TemplateSyntaxError as error:
        return Broken(f"is not a template: {error.message}", line=error.lineno)
    except RecursionError:
        return Broken("is nested too deep", size=True)
    except (ValueError, OverflowError) as error:  # numbers of thousands of digits
        return Broken(f"is not a template: {error}")


@dataclass(slots=True)
class _Reader:
    """Turns nodes into closures, and watches which names are known where."""

    free: dict[str, int] = field(default_factory=dict)
    includes: dict[str, int] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    expressions: Expressions = field(init=False)

    def __post_init__(self) -> None:
        self.expressions = Expressions(name=self._use)

    def program(self, tree: nodes.Template) -> Program:
        return Program(self._all(tree.body), self.free, self.includes)

    def _use(self, name: str, line: int) -> None:
        if name not in self.known:
            self.free.setdefault(name, line)

    def _all(self, body: Sequence[nodes.Node]) -> Statement:
        statements = [self._statement(node) for node in body]

        def run_all(run: Run, names: Names) -> None:
            for statement in statements:
                statement(run, names)

        return run_all

    def _statement(self, node: nodes.Node) -> Statement:
        make = _STATEMENTS.get(type(node))
        if make is None:
            raise Broken(f"uses {_called(node)}, which templates here do not have", line=node.lineno)
        return make(self, node)

    def output(self, node: nodes.Output) -> Statement:
        parts: list[Statement] = []
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                parts.append(_constant(part.data))
            else:
                parts.append(_shown(self.expressions.of(part), part.lineno))
        if len(parts) == 1:
            return parts[0]

        def output(run: Run, names: Names) -> None:
            for part in parts:
                part(run, names)

        return output

    def branch(self, node: nodes.If) -> Statement:
        branches = [(self.expressions.of(node.test), self._all(node.body))]
        branches += [(self.expressions.of(other.test), self._all(other.body)) for other in node.elif_]
        otherwise = self._all(node.else_)

        def branch(run: Run, names: Names) -> None:
            for test, body in branches:
                run.spend()
                if test(run, names):
                    body(run, names)
                    return
            otherwise(run, names)

        return branch

    def loop(self, node: nodes.For) -> Statement:  # noqa: C901  what is prepared once, and what runs each time
        if node.recursive:
            raise Broken("has a loop that calls itself, which templates here do not have", line=node.lineno)
        over = self.expressions.of(node.iter)
        bind, targets = _binder(node.target)
        outside = set(self.known)
        self.known |= {*targets, _LOOP}
        keep = self.expressions.of(node.test) if node.test is not None else None
        body = self._all(node.body)
        counted = any(name.name == _LOOP for part in node.body for name in _names_in(part))
        self.known = outside
        otherwise = self._all(node.else_)
        line = node.lineno

        def loop(run: Run, names: Names) -> None:
            items = over(run, names)
            if isinstance(items, dict):
                items = list(items)
            if not isinstance(items, list):
                raise Broken("goes over something that is neither a list nor a map", line=line)
            if keep is not None:
                chosen = []
                for item in items:
                    run.spend(2)
                    if keep(run, bind(dict(names), item)):
                        chosen.append(item)
                items = chosen
            for at, item in enumerate(items):
                run.spend(2)
                inner = bind(dict(names), item)
                if counted:
                    inner[_LOOP] = _position(at, len(items))
                body(run, inner)
            if not items:
                otherwise(run, names)

        return loop

    def assign(self, node: nodes.Assign) -> Statement:
        value = self.expressions.of(node.node)
        bind, targets = _binder(node.target)
        self.known |= targets

        def assign(run: Run, names: Names) -> None:
            bind(names, value(run, names))

        return assign

    def scope(self, node: nodes.With) -> Statement:
        values = [self.expressions.of(value) for value in node.values]
        binders = [_binder(target) for target in node.targets]
        outside = set(self.known)
        for _, targets in binders:
            self.known |= targets
        body = self._all(node.body)
        self.known = outside

        def scope(run: Run, names: Names) -> None:
            inner = dict(names)
            for (bind, _), value in zip(binders, values, strict=True):
                bind(inner, value(run, names))
            body(run, inner)

        return scope

    def include(self, node: nodes.Include) -> Statement:
        if not isinstance(node.template, nodes.Const) or not isinstance(node.template.value, str):
            raise Broken("includes what is no name in quotes", line=node.lineno)
        alias, line = node.template.value, node.lineno
        if not WORD.fullmatch(alias):
            raise Broken(f"includes {alias[:64]!r}, which is no alias", line=line)
        self.includes.setdefault(alias, line)

        def include(run: Run, names: Names) -> None:
            piece = run.included.get(alias)
            if piece is None:
                raise Broken(f"includes {alias!r}, which the prompt does not hold", line=line)
            if run.depth >= MAX_INCLUDED:
                raise Broken(f"includes over {MAX_INCLUDED} deep", line=line, size=True)
            run.spend(2)
            run.depth += 1
            piece.run(run, dict(names))
            run.depth -= 1

        return include


_STATEMENTS: Final[dict[type[nodes.Node], Callable[[_Reader, Any], Statement]]] = {
    nodes.Output: _Reader.output,
    nodes.If: _Reader.branch,
    nodes.For: _Reader.loop,
    nodes.Assign: _Reader.assign,
    nodes.With: _Reader.scope,
    nodes.Include: _Reader.include,
}


def _constant(text: str) -> Statement:
    def constant(run: Run, names: Names) -> None:  # noqa: ARG001  a statement's signature
        run.put(text)

    return constant


def _shown(value: Callable[[Run, Names], Any], line: int) -> Statement:
    def shown(run: Run, names: Names) -> None:
        try:
            run.show(value(run, names))
        except Broken as broken:
            broken.line = broken.line or line
            raise

    return shown


def _binder(target: nodes.Node) -> tuple[Callable[[Names, Any], Names], set[str]]:
    """How a value is given to a name, or to several."""
    if isinstance(target, nodes.Name):
        name = _assignable(target)

        def bind(names: Names, value: Any) -> Names:
            names[name] = value
            return names

        return bind, {name}
    if isinstance(target, nodes.Tuple) and all(isinstance(item, nodes.Name) for item in target.items):
        several = [_assignable(item) for item in target.items if isinstance(item, nodes.Name)]
        line = target.lineno

        def unpack(names: Names, value: Any) -> Names:
            if not isinstance(value, list) or len(value) != len(several):
                raise Broken(f"cannot be given to {len(several)} names", line=line)
            names.update(zip(several, value, strict=True))
            return names

        return unpack, set(several)
    raise Broken("sets what is no name", line=target.lineno)


def _assignable(target: nodes.Name) -> str:
    if not WORD.fullmatch(target.name) or target.name == _LOOP:
        raise Broken(f"sets {target.name[:64]!r}, which cannot be set", line=target.lineno)
    return target.name


def _names_in(node: nodes.Node) -> Iterable[nodes.Name]:
    if isinstance(node, nodes.Name):
        yield node
    yield from node.find_all(nodes.Name)


def _position(at: int, length: int) -> dict[str, Any]:
    return {
        "index": at + 1,
        "index0": at,
        "revindex": length - at,
        "revindex0": length - at - 1,
        "first": at == 0,
        "last": at == length - 1,
        "length": length,
    }


def _called(node: nodes.Node) -> str:
    return f"`{type(node).__name__.lower()}`"
