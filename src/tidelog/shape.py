"""Whether a JSON value has the shape that a JSON Schema describes: the words that schemas of Python types use.

An answer may reach any process, and most of them do not have the type: the schema in the question must do. What is not known here
(`format`, and words that nobody uses for types) is passed over; the run itself has the type and looks again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

DEPTH: Final = 64
"""How deep schemas and references may be nested; what lies deeper is not looked at."""

Schema = Mapping[str, Any]


def misfit(schema: Schema | bool, value: Any) -> str | None:
    """Why the value does not fit, in one sentence; None if it does."""
    return next(_Look(schema).misfits(schema, value, "The answer", 0), None)


class _Look:
    """One look at one value; `root` holds the definitions."""

    def __init__(self, root: Schema | bool) -> None:
        self._root = root

    def misfits(self, schema: Schema | bool, value: Any, at: str, depth: int) -> Iterator[str]:
        if schema is False:
            yield f"{at} must not be there."
        if not isinstance(schema, Mapping) or depth > DEPTH:
            return
        if "$ref" in schema:
            yield from self.misfits(self._found(schema["$ref"]), value, at, depth + 1)
        kinds = schema.get("type")
        if kinds is not None and not any(map(_is(value), [kinds] if isinstance(kinds, str) else kinds)):
            yield f"{at} must be {_listed(kinds)}."
            return
        if "const" in schema and not _same(value, schema["const"]):
            yield f"{at} must be {schema['const']!r}."
        if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
            yield f"{at} must be one of {', '.join(map(repr, schema['enum']))}."
        for name, (kind, broken, words) in _BOUNDS.items():
            if name in schema and kind(value) and broken(value, schema[name]):
                yield f"{at} {words.format(schema[name])}."
        yield from self._combined(schema, value, at, depth + 1)
        if isinstance(value, Mapping):
            yield from self._object(schema, value, at, depth + 1)
        elif isinstance(value, list):
            yield from self._array(schema, value, at, depth + 1)

    def _combined(self, schema: Schema, value: Any, at: str, depth: int) -> Iterator[str]:
        for inner in schema.get("allOf", ()):
            yield from self.misfits(inner, value, at, depth)
        for name in ("anyOf", "oneOf"):
            if name in schema:
                found = [next(self.misfits(inner, value, at, depth), None) for inner in schema[name]]
                fits = found.count(None)
                if not fits:
                    yield found[0] if len(found) == 1 and found[0] else f"{at} has none of the shapes that are allowed."
                elif fits > 1 and name == "oneOf":
                    yield f"{at} has more than one of the shapes that are allowed."

    def _object(self, schema: Schema, value: Mapping[str, Any], at: str, depth: int) -> Iterator[str]:
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{at} lacks {name!r}."
        for name, each in value.items():
            inner = properties[name] if name in properties else schema.get("additionalProperties", True)
            if name not in properties and inner is False:
                yield f"{at} has no field {name!r}."
            else:
                yield from self.misfits(inner, each, f"{at}: {name!r}", depth)

    def _array(self, schema: Schema, value: list[Any], at: str, depth: int) -> Iterator[str]:
        first = schema.get("prefixItems", ())
        for place, each in enumerate(value):
            inner = first[place] if place < len(first) else schema.get("items", True)
            yield from self.misfits(inner, each, f"{at}: item {place + 1}", depth)

    def _found(self, reference: Any) -> Schema | bool:
        """What a reference inside the schema points at; anything fits a reference that leads nowhere."""
        found: Any = self._root
        for step in str(reference).removeprefix("#").strip("/").split("/"):
            if not isinstance(found, Mapping) or step not in found:
                return True
            found = found[step]
        return found if isinstance(found, Mapping | bool) else True


def _is(value: Any) -> Callable[[Any], bool]:
    def holds(kind: Any) -> bool:
        test = _KINDS.get(kind)
        return test is None or test(value)

    return holds


def _listed(kinds: Any) -> str:
    return " or ".join(_WORDS.get(kind, str(kind)) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_array(value: Any) -> bool:
    return isinstance(value, list)


def _is_no_multiple(value: float, of: float) -> bool:
    return bool(of) and not math.isclose(value / of, round(value / of), abs_tol=1e-9)


def _is_no_match(value: str, pattern: str) -> bool:
    try:
        return re.search(pattern, value) is None
    except re.error:
        return False  # a pattern of another dialect


def _has_repeats(value: list[Any], unique: Any) -> bool:
    return bool(unique) and any(_same(one, other) for place, one in enumerate(value) for other in value[:place])


_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "string": _is_text,
    "number": _is_number,
    "integer": _is_whole,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": _is_array,
    "object": lambda value: isinstance(value, Mapping),
}
_WORDS: Final = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_BOUNDS: Final[dict[str, tuple[Callable[[Any], bool], Callable[[Any, Any], bool], str]]] = {
    "minimum": (_is_number, lambda value, bound: value < bound, "must be at least {}"),
    "maximum": (_is_number, lambda value, bound: value > bound, "must be at most {}"),
    "exclusiveMinimum": (_is_number, lambda value, bound: value <= bound, "must be more than {}"),
    "exclusiveMaximum": (_is_number, lambda value, bound: value >= bound, "must be less than {}"),
    "multipleOf": (_is_number, _is_no_multiple, "must be a multiple of {}"),
    "minLength": (_is_text, lambda value, bound: len(value) < bound, "must have at least {} characters"),
    "maxLength": (_is_text, lambda value, bound: len(value) > bound, "must have at most {} characters"),
    "pattern": (_is_text, _is_no_match, "must match {}"),
    "minItems": (_is_array, lambda value, bound: len(value) < bound, "must have at least {} items"),
    "maxItems": (_is_array, lambda value, bound: len(value) > bound, "must have at most {} items"),
    "uniqueItems": (_is_array, _has_repeats, "must not repeat an item"),
}
"""Which values a word concerns, when it is broken, and how that is said."""
