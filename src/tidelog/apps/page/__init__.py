"""The page at `/`: files of this folder as they are. Nothing on it comes from elsewhere; a policy holds it to that."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter, HTTPException
from starlette.responses import FileResponse

HERE: Final = Path(__file__).parent
KINDS: Final = MappingProxyType({".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"})
"""By suffix: what is not here is not served."""
HEADERS: Final = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
)


def page_router() -> APIRouter:
    """`GET /` and the page's files under `/page`. All its addresses are relative, so it works below a prefix."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def index() -> FileResponse:
        return FileResponse(HERE / "index.html", media_type="text/html", headers=HEADERS)

    @router.get("/page/{name}")
    def file(name: str) -> FileResponse:
        path = HERE / name
        if path.suffix not in KINDS or path.parent != HERE or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, media_type=KINDS[path.suffix], headers=HEADERS)

    return router
