"""`@tide.stream(message="question")`: where in an endpoint's arguments stands what the user said."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any


class Said:
    """Finds the user's message among the arguments of a call: a parameter of this name, or a field of one that has it."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """Raises `TypeError` where no argument can hold it."""
        parameters = inspect.signature(function).parameters
        hints = typing.get_type_hints(function)
        self._name = name
        self._holders = [] if name in parameters else [one for one in parameters if _may_hold(hints.get(one), name)]
        if name not in parameters and not self._holders:
            raise TypeError(f"{function.__name__}: message={name!r} is no parameter, and no field of one.")

    def of(self, given: Mapping[str, Any]) -> str | None:
        """The message of this call; None where there is none. Raises `TypeError` for one that is no text."""
        found = given.get(self._name)
        for holder in self._holders:
            value = given.get(holder)
            found = value.get(self._name) if isinstance(value, Mapping) else getattr(value, self._name, None)
            if found is not None:
                break
        if found is not None and not isinstance(found, str):
            raise TypeError(f"message={self._name!r} is {type(found).__name__}, not text.")
        return found


def _may_hold(hint: Any, name: str) -> bool:
    """Whether a value of this type may have such a field: a model or dataclass that declares it, or a dict."""
    kinds = typing.get_args(hint) or (hint,)
    return any(
        name in getattr(kind, "__annotations__", ()) or name in getattr(kind, "model_fields", ()) or _is_dict(kind)
        for kind in (hint, *kinds)
    )


def _is_dict(kind: Any) -> bool:
    return kind is dict or typing.get_origin(kind) is dict
