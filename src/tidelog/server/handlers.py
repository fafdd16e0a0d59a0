"""Whether an application has an exception handler of its own for an error: then that one answers, not we."""

from __future__ import annotations

from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from starlette.exceptions import HTTPException
from starlette.types import Scope


def has_own_handler(scope: Scope, error: Exception) -> bool:
    """True if the app registered a handler for this error's class, a parent of it, or its status; defaults do not count."""
    app_handlers = getattr(scope.get("app"), "exception_handlers", None) or {}
    by_class, by_status = scope.get("starlette.exception_handlers", ({}, {}))
    found = by_status.get(error.status_code) if isinstance(error, HTTPException) else None
    for cls in type(error).__mro__:
        found = found or by_class.get(cls) or app_handlers.get(cls)
    if found is None and not isinstance(error, HTTPException):
        found = app_handlers.get(500)
    return (
        found is not None
        and found not in (http_exception_handler, request_validation_exception_handler)
        and not _is_default(found)
    )


def _is_default(handler: object) -> bool:
    """Starlette's own handler for HTTPException is a bound method of its ExceptionMiddleware."""
    return getattr(handler, "__module__", "").startswith(("starlette.", "fastapi."))
