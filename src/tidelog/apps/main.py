"""What `tidelog serve` runs when no application is named: a folder of documents answers, and a page asks it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI

from tidelog import Tidelog, __version__
from tidelog.apps.library import Library
from tidelog.apps.page import page_router
from tidelog.apps.rag import rag_router
from tidelog.apps.uploads import uploads_router


def make_app(store: str | None = None, docs: str | None = None, *, drain_timeout: float = 10.0) -> FastAPI:
    """The built-in application: `/rag`, the page at `/`, `/about`, and the routes over runs and threads.

    `store` is as for `Tidelog`; `docs` is a folder or file, None: tidelog's own README and pages. The documents are
    read in a thread, once the application starts. `drain_timeout` (seconds) is as for `Tidelog`.
    Raises `TidelogError` if there is nothing at `docs`.
    """
    tide = Tidelog(store, drain_timeout=drain_timeout)
    library = Library(docs)
    app = FastAPI(title="tidelog", version=__version__, lifespan=library.lifespan)
    app.include_router(tide.router)
    app.include_router(rag_router(tide, library))
    app.include_router(uploads_router(tide, library))
    app.include_router(page_router())

    @app.get("/about")
    def about() -> dict[str, Any]:
        """What this server is: version, store, documents. There is no language model."""
        return {
            "version": __version__,
            "store": without_secrets(tide.store_url),
            "documents": library.state(),
            "answerer": "extractive",
            "model": None,
        }

    return app


def without_secrets(url: str) -> str:
    """The URL without its user, password, query and fragment."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    start = f"{parts.scheme}://" if "://" in url else f"{parts.scheme}:"
    return f"{start}{place}{parts.path}"
