"""Where a run is found: the path that a client can follow; prefix, mounts and `root_path` counted (spec §4).

Route names do not tell it: an application may hold several Tidelogs, and an endpoint may live in a mounted application
while the router is the outer one's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from fastapi.routing import iter_route_contexts
from starlette.types import Scope


class Links:
    """The paths of one Tidelog's routes. `app` is the application that runs its lifespan, once that is known."""

    def __init__(self) -> None:
        self.app: Any = None
        self.endpoint: Callable[..., Any] | None = None
        """The endpoint of `GET /runs/{run}`."""
        self._known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def run(self, scope: Scope, run: str) -> str:
        """The path of a run as the client sees it."""
        here, outermost = str(scope.get("root_path", "")), root_of(scope)
        for app, root in ((scope.get("app"), here), (self.app, outermost)):
            template = self._template(app) if app is not None else None
            if template is not None:
                return root.rstrip("/") + template.format_map({**scope.get("path_params", {}), "run": run})
        return f"{here.rstrip('/')}/runs/{run}"

    def _template(self, app: Any) -> str | None:
        known = self._known.get(app)
        if known is None:
            found = (one.path for one in iter_route_contexts(app.routes) if one.endpoint is self.endpoint)
            if (known := next(found, None)) is None:
                return None
            self._known[app] = known
        return known


def root_of(scope: Scope) -> str:
    """The `root_path` of the outermost application, whatever is mounted where."""
    return str(scope.get("app_root_path", scope.get("root_path", ""))).rstrip("/")


def route_of(scope: Scope) -> str:
    """The path that was asked for, as the outermost application sees it."""
    path, root = str(scope["path"]), root_of(scope)
    return path.removeprefix(root) if root and path.startswith(root + "/") else path
