"""The routes of an application as templates: what may be counted and logged, where a path may hold what a user asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from fastapi.routing import iter_route_contexts

from tidelog.head import Head
from tidelog.server.links import Links

OTHER: Final = "other"
"""A path that no route of the application has."""
KNOWN: Final = 256
"""Paths that are remembered with their templates."""


class Place(NamedTuple):
    """Where a path leads to."""

    template: str
    endpoint: Any


class Templates:
    """From the path that started a run to its route, such as `/chat/{user}`."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._known: dict[str, str] = {}

    def of(self, path: str | None) -> str:
        """The template; empty for a run that no request started, `OTHER` where there is none."""
        if path is None:
            return ""
        found = self._known.get(path)
        if found is None:
            place = self._find(path, None)
            if place is None:
                return OTHER
            found = place.template
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[path] = found
        return found

    def endpoint(self, head: Head) -> Any:
        """What answered the request that started this run, as this process has it; None where nothing here does."""
        if head.route is None:
            return None
        place = self._find(head.route, head.request.method if head.request is not None else None)
        return place.endpoint if place is not None else None

    def _find(self, path: str, method: str | None) -> Place | None:
        return _find(getattr(self._links.app, "routes", ()), path, method)


def _find(routes: Iterable[Any], path: str, method: str | None) -> Place | None:
    for route in iter_route_contexts(list(routes)):
        match = getattr(route, "path_regex", None) and route.path_regex.match(path)
        methods = getattr(route.original_route, "methods", None)
        if not match or (method is not None and methods and method not in methods):
            continue
        mounted = getattr(route.original_route, "routes", None)
        if not mounted:
            return Place(str(route.path_format), route.endpoint)
        inner = _find(mounted, "/" + match.groupdict().get("path", "").lstrip("/"), method)
        if inner is not None:
            return inner._replace(template=f"{route.path}{inner.template}")
    return None
