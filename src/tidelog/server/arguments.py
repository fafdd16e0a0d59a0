"""The arguments of a function that is called in another process: JSON, by the types that it declares."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError

from tidelog.elsewhere import WORK_BYTES
from tidelog.errors import InvalidRequest, TooLarge


class Arguments:
    """Those of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises `TypeError` for parameters whose values cannot travel."""
        self._function = function
        self._signature = inspect.signature(function)
        hints = typing.get_type_hints(function)
        self._types = {name: _type(function, one, hints) for name, one in self._signature.parameters.items()}

    def dump(self, *args: Any, **given: Any) -> dict[str, Any]:
        """These arguments as JSON. Raises `TypeError` where they do not fit the function, `InvalidRequest`, `TooLarge`."""
        bound = self._signature.bind(*args, **given).arguments
        try:
            found = {name: msgspec.json.decode(self._types[name].dump_json(value)) for name, value in bound.items()}
        except PydanticSerializationError as error:
            raise InvalidRequest(f"{self._function.__name__}: its arguments do not travel: {error}") from error
        if len(msgspec.json.encode(found)) > WORK_BYTES:
            raise TooLarge(
                f"What a worker is given may take {WORK_BYTES} bytes: store the rest, and give it the place."
            )
        return found

    def call(self, kept: Any) -> Callable[[], Any]:
        """The function with the arguments that `dump` gave. Raises pydantic's `ValidationError` for those of another version."""
        bound = self._signature.bind_partial()
        for name, value in kept.items():
            if name in self._types:
                bound.arguments[name] = self._types[name].validate_json(msgspec.json.encode(value))
        return partial(self._function, *bound.args, **bound.kwargs)


def _type(function: Callable[..., Any], one: inspect.Parameter, hints: dict[str, Any]) -> TypeAdapter[Any]:
    if one.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise TypeError(f"{function.__name__}: a function for a worker cannot take *{one.name}.")
    try:
        return TypeAdapter(hints.get(one.name, Any))
    except PydanticUserError as error:
        raise TypeError(
            f"{function.__name__}: {one.name} cannot travel to a worker, which has another process: "
            "give it what it needs to open its own."
        ) from error
