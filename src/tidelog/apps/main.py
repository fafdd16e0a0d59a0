"""What `tidelog serve` runs when no application is named: chat, answers from documents, an agent, and a page over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request

from tidelog import Tidelog, __version__
from tidelog.apps.agent import agent_router
from tidelog.apps.chat import chat_router
from tidelog.apps.library import Library
from tidelog.apps.model_choice import ATTEMPTS, Choice, choose
from tidelog.apps.model_rag import cited
from tidelog.apps.page import page_router
from tidelog.apps.rag import rag_router
from tidelog.apps.sign_in import sign_in_router
from tidelog.apps.uploads import uploads_router

if TYPE_CHECKING:
    from tidelog.apps.model import Model

__all__ = ["answering", "choose", "make_app", "without_secrets"]

APPS: Final = ("rag", "chat", "agent")


def make_app(
    store: str | None = None, docs: str | None = None, *,
    drain_timeout: float = 10.0, model: Choice | None = None, principal: Callable[[Request], Any] | None = None,
) -> FastAPI:  # fmt: skip
    """The built-in applications: `/chat`, `/rag`, `/agent`, `/documents`, the page at `/`, `/about`, and tidelog's routes.

    `store` is as for `Tidelog`; `docs` is a folder or file, None: tidelog's own README and pages. The documents are
    read in a thread, once the application starts. `drain_timeout` (seconds) is as for `Tidelog`. `model` answers; None: the
    built-in, extractive answerer. The environment is not looked at: see `choose`. `principal` is as for `Tidelog`; with it
    everything but the page itself is for those that it knows, and `/sign-in` lets the page in.
    Raises `TidelogError` if there is nothing at `docs`.
    """
    tide = Tidelog(store, drain_timeout=drain_timeout, principal=principal)
    library = Library(docs)
    attached = None if model is None else _attached(model)
    app = FastAPI(title="tidelog", version=__version__, lifespan=partial(_lifespan, library, attached))
    app.state.model = attached
    app.include_router(tide.router)
    tell = partial(cited, tide, attached, library) if attached is not None else None
    app.include_router(rag_router(tide, library, tell, attempts=1 if attached is None else ATTEMPTS))
    app.include_router(chat_router(tide, library, attached))
    app.include_router(agent_router(tide, library, attached))
    app.include_router(uploads_router(tide, library))
    app.include_router(page_router())
    if principal is not None:
        app.include_router(sign_in_router(tide))

    @app.get("/about", dependencies=[Depends(tide.principal_of)])
    def about() -> dict[str, Any]:
        """What this server is: version, store, documents, and who answers."""
        return {
            "version": __version__,
            "store": without_secrets(tide.store_url),
            "documents": library.state(),
            "answerer": "extractive" if attached is None else "model",
            "model": None if attached is None else attached.described,
            "apps": list(APPS),
        }

    return app


def _attached(choice: Choice) -> Model:
    from tidelog.apps.model import Model  # here: who has none starts without the HTTP client

    return Model(choice)


def answering(app: FastAPI) -> str:
    """Who answers, for the line that tells that the server is up."""
    model: Model | None = app.state.model
    if model is None:
        return "no language model is attached"
    place = model.choice.place
    return (
        f"{model.name} answers ({place})" if model.name else f"the model server at {place} has not named its model yet"
    )


@asynccontextmanager
async def _lifespan(library: Library, model: Model | None, app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(library.lifespan(app))
        if model is not None:
            await stack.enter_async_context(model.lifespan())
        yield


def without_secrets(url: str) -> str:
    """The URL without its user, password, query and fragment."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    start = f"{parts.scheme}://" if "://" in url else f"{parts.scheme}:"
    return f"{start}{place}{parts.path}"
