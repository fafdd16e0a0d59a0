"""A request as a start reads it: a dozen headers are looked for, and each search would go through all that came."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope


class Asked(Request):
    """A request whose headers are found without a search."""

    @property
    def headers(self) -> Headers:
        """Those that came."""
        if not hasattr(self, "_headers"):
            self._headers = _Found(self.scope)
        return self._headers


class _Found(Headers):
    """`get` gives the first header of a name, as ever."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._firsts = dict(reversed(self.raw))

    def get(self, key: str, default: Any = None) -> Any:
        found = self._firsts.get(key.lower().encode("latin-1"))
        return default if found is None else found.decode("latin-1")
