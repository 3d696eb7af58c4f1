"""The app's own variables: declared by a JSON schema, checked, and marked where the schema says they are untrusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

import jsonschema_rs

from anabranch_faults import Invalid
from anabranch_prompts.plain import Data, plain
from anabranch_prompts.running import kind_of
from anabranch_prompts.values import PLATFORM, WORD

UNTRUSTED: Final = "x-untrusted"
MAX_SCHEMA: Final = 65_536
_KEYWORDS_OF_REFERENCE: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_META: Final = ("$schema", "$id")


def schema_problem(schema: Mapping[str, Any]) -> str:
    """Why it is no schema of variables; empty when it is one."""
    try:
        written = _written(schema)
        _validator(written)
    except Invalid as fault:
        return fault.problem
    for name in declared(schema):
        if not WORD.fullmatch(name):
            return f"declares {name[:64]!r}: a name is a letter and up to 63 letters, digits and underscores"
        if name in PLATFORM:
            return f"declares {name!r}, which the platform gives itself"
    return ""


def declared(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The variables' own schemas by name."""
    properties = schema.get("properties")
    return dict(properties) if isinstance(properties, Mapping) else {}


def required(schema: Mapping[str, Any]) -> frozenset[str]:
    """The variables without which it cannot be rendered."""
    names = schema.get("required")
    wanted = (
        frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list | tuple) else frozenset()
    )
    return frozenset(n for n in wanted if not _has_default(declared(schema).get(n)))


def checked(schema: Mapping[str, Any], given: Mapping[str, Any], *, prompt: str) -> dict[str, Any]:
    """The variables as a template sees them: declared ones only, defaults filled in, untrusted text as Data.

    What is not declared is left out: two prompts of an experiment may ask for different things. Raises Invalid naming
    `variables.<name>`, the problem and what to do.
    """
    known = declared(schema)
    if not known and not given:
        return {}
    strict = schema.get("additionalProperties") is False
    values = plain({name: value for name, value in given.items() if strict or name in known})
    for name, own in known.items():
        if name not in values and _has_default(own):
            values[name] = plain(own["default"], field=f"variables.{name}")
    if schema:
        for error in _validator(_written(schema)).iter_errors(values):
            raise _fault(error, values, known, prompt)
    return {name: _marked(known.get(name), value) for name, value in values.items()}


def _marked(schema: Any, value: Any) -> Any:
    if not isinstance(schema, Mapping):
        return value
    if schema.get(UNTRUSTED) is True:
        return plain(value, text=Data)
    inner = schema.get("properties")
    if isinstance(value, dict) and isinstance(inner, Mapping):
        return {key: _marked(inner.get(key), one) for key, one in value.items()}
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_marked(schema["items"], one) for one in value]
    return value


def _fault(error: Any, values: Mapping[str, Any], known: Mapping[str, Any], prompt: str) -> Invalid:
    path = [str(part) for part in error.instance_path]
    missing = getattr(error.kind, "property", None) if error.kind.name == "required" else None
    if missing is not None and not path:
        wanted = _wanted(known.get(missing))
        return Invalid(
            f"is missing: the prompt {prompt} asks for {wanted}; send it with the question, or give it a default in the"
            " prompt's schema",
            field=f"variables.{missing}",
            reason="MISSING_VARIABLE",
        )
    if not path:
        return Invalid(
            f"do not fit the prompt {prompt}: {error.message[:300]}", field="variables", reason="WRONG_VARIABLE"
        )
    problem = error.message[:300]
    if error.kind.name == "type" and len(path) == 1:
        problem = f"is {kind_of(values.get(path[0]))}, not {_wanted(known.get(path[0]))}"
    return Invalid(
        f"{problem}: send what the prompt {prompt} declares, or change its schema",
        field=".".join(("variables", *path)),
        reason="WRONG_VARIABLE",
    )


def _wanted(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    names = {"string": "text", "number": "a number", "integer": "a whole number", "boolean": "true or false"}
    more = {"array": "a list", "object": "a map", "null": "nothing"}
    if isinstance(kind, list | tuple):
        return " or ".join(str((names | more).get(one, one)) for one in kind)
    return str((names | more).get(kind, "it")) if isinstance(kind, str) else "it"


def _has_default(schema: Any) -> bool:
    return isinstance(schema, Mapping) and "default" in schema


def _written(schema: Mapping[str, Any]) -> str:
    plain_schema = plain(schema)
    if plain_schema.get("type", "object") != "object":
        raise Invalid("is not the schema of an object", field="variables")
    _refuse_foreign(plain_schema)
    written = json.dumps(plain_schema, sort_keys=True)
    if len(written) > MAX_SCHEMA:
        raise Invalid(f"is {len(written)} characters of JSON; the limit is {MAX_SCHEMA}", field="variables")
    return written


def _refuse_foreign(schema: Any) -> None:
    """A schema is whole in itself: nothing is fetched for it, from a network or a disk."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in _KEYWORDS_OF_REFERENCE and not (isinstance(value, str) and value.startswith("#")):
                raise Invalid(
                    f"refers to {value!r:.100}; only what stands in the schema itself may be", field="variables"
                )
            _refuse_foreign(value)
    elif isinstance(schema, list):
        for value in schema:
            _refuse_foreign(value)


@lru_cache(maxsize=512)
def _validator(written: str) -> Any:
    schema = json.loads(written)
    for key in _META:
        schema.pop(key, None)
    schema.setdefault("type", "object")
    try:
        return jsonschema_rs.Draft202012Validator(
            schema, retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20)
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise Invalid(f"is no JSON schema: {str(error).splitlines()[0][:300]}", field="variables") from error


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched")
