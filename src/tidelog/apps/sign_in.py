"""`/sign-in`: a key that is typed once on the page becomes a cookie, so that the page itself never keeps it.

The cookie holds the key, out of reach of scripts and sent to this site alone. A key that is taken from the list lets in nobody,
and no cookie either.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from tidelog import Tidelog

COOKIE: Final = "tidelog-key"
MAX_AGE: Final = 30 * 24 * 3600
"""Seconds for which a browser keeps it."""


def sign_in_router(tide: Tidelog) -> APIRouter:
    """`POST /sign-in` with `Authorization: Bearer <key>`, and `POST /sign-out`."""
    router = APIRouter(tags=["sign-in"])

    @router.post("/sign-in", status_code=204, response_class=Response, dependencies=[Depends(tide.principal_of)])
    async def sign_in(request: Request) -> Response:
        """Keep the key of this request in a cookie; 401 for one that is not known."""
        response = Response(status_code=204, headers={"Cache-Control": "no-store"})
        key = request.headers.get("authorization", "").partition(" ")[2].strip()
        if key:
            response.set_cookie(COOKIE, key, max_age=MAX_AGE, **_settings(request))
        return response

    @router.post("/sign-out", status_code=204, response_class=Response)
    async def sign_out(request: Request) -> Response:
        """Forget the key."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, **_settings(request))
        return response

    return router


def _settings(request: Request) -> dict[str, Any]:
    path = request.scope.get("root_path", "") or "/"
    return {"path": path, "httponly": True, "samesite": "strict", "secure": request.scope["scheme"] == "https"}
