"""The documents of the built-in application: read and indexed once, in a thread, while the server already answers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import tidelog
from tidelog import SourceError, TidelogError
from tidelog.apps.documents import Document, Index, Skipped, read_folder

log = logging.getLogger("tidelog")

OWN: Final = ("README.md", "README.zh-CN.md", "docs", "spec")
"""What tidelog answers from when nobody names documents."""
NAMED_SKIPS: Final = 5
"""Files that were not read and that the log names, each; of more it tells the number."""


class Library:
    """A folder or file of documents; tidelog's own where `docs` is None.

    Raises `TidelogError` if there is nothing at `docs`: a mistyped name should stop the server, not every answer.
    """

    def __init__(self, docs: str | None) -> None:
        self._own = docs is None
        self._roots = own_documents() if docs is None else [Path(docs)]
        if docs is not None and not Path(docs).exists():
            raise TidelogError(f"There is no file or folder of documents at {docs}.", code="invalid_request")
        self._closing = threading.Event()
        self._building: asyncio.Task[Index] | None = None

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Begin to read; on leaving, give up after the document at hand."""
        self._building = asyncio.create_task(asyncio.to_thread(self._build))
        self._building.add_done_callback(self._told)
        try:
            yield
        finally:
            self._closing.set()
            await asyncio.wait([self._building])

    async def index(self) -> Index:
        """The index, as soon as it is built. Raises `SourceError` in words that may be shown."""
        if self._building is None:
            raise SourceError("The documents are read when the application starts, and it has not started.")
        try:
            return await asyncio.shield(self._building)
        except OSError as error:
            raise SourceError(f"The documents cannot be read: {error.strerror or error}.") from error

    def state(self) -> dict[str, Any]:
        """`state`: reading, ready or failed; `count`: None until it is ready; `own`: whether they are tidelog's."""
        state, count = "reading", None
        if self._building is not None and self._building.done():
            state = "failed" if self._building.cancelled() or self._building.exception() else "ready"
        if state == "ready" and self._building is not None:
            count = self._building.result().documents
        return {"state": state, "count": count, "own": self._own}

    def _build(self) -> Index:
        skipped: list[Skipped] = []
        index = Index.build(self._documents(skipped))
        log.info("%d documents, %d passages", index.documents, index.chunks)
        if not self._own:
            _tell_skipped(skipped)
        return index

    def _documents(self, skipped: list[Skipped]) -> Iterator[Document]:
        for root in self._roots:
            for document in read_folder(root, skipped=skipped):
                if self._closing.is_set():
                    raise InterruptedError("the server is going")
                within = f"{root.name}/{document.path}" if len(self._roots) > 1 and root.is_dir() else document.path
                yield dataclasses.replace(document, path=within)

    def _told(self, building: asyncio.Task[Index]) -> None:
        if not building.cancelled() and (error := building.exception()) and not isinstance(error, InterruptedError):
            log.error("the documents cannot be read", exc_info=error)


def _tell_skipped(skipped: list[Skipped]) -> None:
    for one in skipped[:NAMED_SKIPS]:
        log.warning("%s was not read: %s", one.path, one.reason)
    if len(skipped) > NAMED_SKIPS:
        log.warning("%d more files were not read", len(skipped) - NAMED_SKIPS)


def own_documents() -> list[Path]:
    """Tidelog's README and pages: beside the code in a checkout, in the package where it is installed."""
    package = Path(tidelog.__file__).parent
    checkout, carried = package.parent.parent, package / "apps" / "own"
    home = checkout if (checkout / "pyproject.toml").exists() and package.parent.name == "src" else carried
    return [home / name for name in OWN if (home / name).exists()]
