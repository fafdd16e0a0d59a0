"""The routes of an application as templates: what may be counted and logged, where a path may hold what a user asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastapi.routing import iter_route_contexts

from tidelog.server.links import Links

OTHER: Final = "other"
"""A path that no route of the application has."""
KNOWN: Final = 256
"""Paths that are remembered with their templates."""


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
            found = _find(getattr(self._links.app, "routes", ()), path)
            if found is None:
                return OTHER
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[path] = found
        return found


def _find(routes: Iterable[Any], path: str) -> str | None:
    for route in iter_route_contexts(list(routes)):
        match = getattr(route, "path_regex", None) and route.path_regex.match(path)
        if not match:
            continue
        mounted = getattr(route.original_route, "routes", None)
        if not mounted:
            return route.path_format
        inner = _find(mounted, "/" + match.groupdict().get("path", "").lstrip("/"))
        if inner is not None:
            return f"{route.path}{inner}"
    return None
