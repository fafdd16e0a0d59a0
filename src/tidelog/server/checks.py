"""What is looked at when an application starts: mistakes that FastAPI cannot see, and what OpenAPI should say of streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any

log = logging.getLogger("tidelog")


def check_app(app: Any, functions: Collection[Callable[..., Any]]) -> None:
    """Warn of routes that hold the undecorated function: `@tide.stream` must stand below `@app.post`."""
    for route in all_routes(app):
        if getattr(route, "endpoint", None) in functions:
            log.warning(
                "%s holds %s itself, not the stream: put @tide.stream below the route's decorator",
                getattr(route, "path", "a route"), route.endpoint.__name__,
            )  # fmt: skip


def all_routes(app: Any) -> Iterator[Any]:
    """Every route of the app, those of included and mounted ones too."""
    for route in getattr(app, "routes", ()):
        yield route
        for inner in (
            getattr(route, "app", None),
            getattr(route, "original_router", None),
            getattr(route, "router", None),
        ):
            if inner is not None and hasattr(inner, "routes"):
                yield from all_routes(inner)
                break
