"""`@tide.stream`: an endpoint that is a generator function (design: the HTTP surface).

FastAPI solves the parameters of what it sees, so the wrapper shows a signature of its own: resolved hints, no return annotation
and no `__wrapped__` (FastAPI would unwrap it and stream JSON lines), `yield` dependencies at function scope, so that they are
closed before the first event, and three parameters more: for the request's body, for the headers that dependencies
set, and for OpenAPI.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Final, Protocol

from fastapi import BackgroundTasks, Header, Request, Response, UploadFile
from fastapi.params import Depends
from starlette.datastructures import UploadFile as StarletteUploadFile
from starlette.requests import HTTPConnection

from tidelog.server.openapi import RESUMES
from tidelog.server.response import TideResponse

log = logging.getLogger("tidelog")

Endpoint = Callable[..., Awaitable[Response]]
REQUEST: Final = "tidelog_request"
RESPONSE: Final = "tidelog_response"
CURSOR: Final = "tidelog_cursor"
_Cursor: Final = Annotated[str | None, Header(alias="Last-Event-ID", description=RESUMES)]
_FORBIDDEN: Final = (UploadFile, StarletteUploadFile, BackgroundTasks, HTTPConnection)


class Respond(Protocol):
    """Makes the answer of one call: `tide.response` with the endpoint's options."""

    def __call__(self, work: Callable[[], Any], /, *, body: bytes | None, given: dict[str, Any]) -> TideResponse: ...


def endpoint(function: Callable[..., Any], respond: Respond) -> Endpoint:
    """The endpoint that starts a run of this generator function. Raises `TypeError` for parameters that a run cannot outlive."""
    signature = _signature(function)

    async def start(**given: Any) -> Response:
        request, solved = given.pop(REQUEST), given.pop(RESPONSE)
        del given[CURSOR]  # read from the request itself; it stands in the signature for OpenAPI
        answer = respond(functools.partial(function, **given), body=await request.body(), given=given)
        _merge(solved, answer)
        return answer

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(start, name, getattr(function, name, None))
    start.__signature__ = signature  # type: ignore[attr-defined]
    return start


def _merge(solved: Response, answer: TideResponse) -> None:
    """Headers and cookies that dependencies set."""
    for name, value in solved.headers.raw:
        if name != b"content-length":
            answer.extra_headers.append((name.decode("latin-1"), value.decode("latin-1")))


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = [_parameter(function, one, hints) for one in inspect.signature(function).parameters.values()]
    hidden = [
        inspect.Parameter(REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request),
        inspect.Parameter(RESPONSE, inspect.Parameter.KEYWORD_ONLY, annotation=Response),
        inspect.Parameter(CURSOR, inspect.Parameter.KEYWORD_ONLY, annotation=_Cursor, default=None),
    ]
    keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    return inspect.Signature([*keyword_only, *hidden])


def _parameter(function: Callable[..., Any], parameter: inspect.Parameter, hints: dict[str, Any]) -> inspect.Parameter:
    hint = hints.get(parameter.name, parameter.annotation)
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise TypeError(f"{function.__name__}: an endpoint cannot take *{parameter.name}.")
    for part in _parts(hint):
        if isinstance(part, type) and issubclass(part, _FORBIDDEN):
            raise TypeError(
                f"{function.__name__}: a run outlives the request, "
                f"so @tide.stream cannot pass {part.__name__} ({parameter.name}) to it. "
                f"Write an endpoint that reads what it needs and ends with: return tide.response({function.__name__}(...))"
            )
    return parameter.replace(annotation=_at_function_scope(hint), default=_depends(parameter.default))


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for argument in typing.get_args(hint):
        yield from _parts(argument)


def _at_function_scope(hint: Any) -> Any:
    if typing.get_origin(hint) is not Annotated:
        return hint
    kind, *marks = typing.get_args(hint)
    return Annotated[(kind, *map(_depends, marks))]


def _depends(mark: Any) -> Any:
    """The dependency at function scope, if it is one with `yield` and no scope of its own."""
    if not isinstance(mark, Depends) or mark.dependency is None:
        return mark
    _warn_of_nested(mark.dependency, set())
    if mark.scope is None and _yields(mark.dependency):
        return dataclasses.replace(mark, scope="function")
    return mark


def _yields(call: Callable[..., Any]) -> bool:
    inner = call if inspect.isroutine(call) else getattr(type(call), "__call__", call)  # noqa: B004
    return inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)


def _warn_of_nested(call: Callable[..., Any], seen: set[Any]) -> None:
    """A `yield` dependency below another is closed only when the request ends, unless its own Depends says otherwise."""
    if call in seen or inspect.isclass(call):
        return
    seen.add(call)
    try:
        hints = typing.get_type_hints(call, include_extras=True)
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError, NameError):
        return
    for parameter in parameters:
        marks = [parameter.default, *typing.get_args(hints.get(parameter.name))[1:]]
        for mark in marks:
            if isinstance(mark, Depends) and mark.dependency is not None:
                name = getattr(mark.dependency, "__name__", mark.dependency)
                if mark.scope is None and _yields(mark.dependency):
                    log.warning(
                        "the dependency %s is held open as long as the answer streams; "
                        'write Depends(%s, scope="function") where %s uses it',
                        name, name, getattr(call, "__name__", call),
                    )  # fmt: skip
                _warn_of_nested(mark.dependency, seen)
