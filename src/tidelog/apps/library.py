"""The documents of the built-in application: a folder, read once when it starts, and what people upload.

Everything is read and indexed in threads, while the server answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import tidelog
from tidelog import SourceError, TidelogError
from tidelog.apps.documents import Document, Entry, Index, Skipped, Unreadable, read_document, read_folder
from tidelog.apps.documents.way import Way
from tidelog.apps.shelf import Kept, Shelf

log = logging.getLogger("tidelog")

OWN: Final = ("README.md", "README.zh-CN.md", "docs", "spec")
"""What tidelog answers from when nobody names documents."""
NAMED_SKIPS: Final = 5
"""Files that were not read and that the log names, each; of more it tells the number."""
READERS_AT_WORK: Final = 1
"""Uploaded files that are read at once: reading is Python work, and more would only take turns with the answers."""


class Added(NamedTuple):
    """One uploaded document that was read: `passages` counts its chunks, `replaced` tells of an older one of its name."""

    name: str
    title: str
    passages: int
    replaced: bool


class Held(NamedTuple):
    """An uploaded document as the index has it."""

    kept: Kept
    entry: Entry


class Library:
    """A folder or file of documents, and beside it those that are uploaded; tidelog's own where `docs` is None.

    Tidelog's own step aside as long as there are uploaded ones. `place` is where these are kept: a file, or None:
    memory. Several processes may have one place: what is uploaded to one, or deleted there, the others know before
    their next answer. Raises `TidelogError` if there is nothing at `docs`: a mistyped name should stop the server, not every
    answer.
    """

    def __init__(self, docs: str | None, *, place: str | None = None) -> None:
        self.place = place
        self.skipped: list[Skipped] = []
        """The files of the named folder that were not read, known once the index is."""
        self._own = docs is None
        self._roots = own_documents() if docs is None else [Path(docs)]
        if docs is not None and not Path(docs).exists():
            raise TidelogError(f"There is no file or folder of documents at {docs}.", code="invalid_request")
        self._closing = threading.Event()
        self._building: asyncio.Task[Index] | None = None
        self._shelf: Shelf | None = None
        self.way = Way()
        """Reading gives way to whoever says here that it is needed."""
        self._uploaded = Index(way=self.way)
        self._held: dict[str, Held] = {}
        self._version: int | None = None
        """What the index has of the shelf that others change; what this process changes it takes over by itself."""
        self._catching_up: asyncio.Task[None] | None = None
        self._following = threading.Lock()
        self._reader = ThreadPoolExecutor(READERS_AT_WORK, "tidelog-documents")

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Begin to read; on leaving, give up after the document at hand.

        Raises `TidelogError` if the uploaded documents cannot be opened.
        """
        self._shelf = await asyncio.to_thread(Shelf, self.place) if self.place else Shelf()
        self._building = asyncio.create_task(asyncio.to_thread(self._build))
        self._building.add_done_callback(self._told)
        try:
            yield
        finally:
            self._closing.set()
            await asyncio.wait([self._building, *filter(None, [self._catching_up])])
            await asyncio.to_thread(self._reader.shutdown, cancel_futures=True)
            self._shelf.close()

    async def index(self) -> Index:
        """The index to answer from, as soon as it is built. Raises `SourceError` in words that may be shown."""
        folder = await self._ready()
        with _readable():
            await self._caught_up()
        return self._uploaded if self._held else folder

    def state(self) -> dict[str, Any]:
        """`state`: reading, ready or failed; `count`: None until it is ready; `own`: whether they are tidelog's."""
        state, count = "reading", None
        if self._building is not None and self._building.done():
            state = "failed" if self._building.cancelled() or self._building.exception() else "ready"
        if state == "ready" and self._building is not None:
            count = (self._uploaded if self._held else self._building.result()).documents
        return {"state": state, "count": count, "own": self._own and not self._held}

    async def kept(self) -> list[Kept]:
        """The uploaded documents, by name."""
        if self.state()["state"] == "ready":
            await self._caught_up()
        return await asyncio.to_thread(self._opened().list)

    async def add(self, name: str, file: BinaryIO) -> Added:
        """Read, keep and index an uploaded file, in the place of the one of that name.

        Cancelled before it is kept, it is not kept. Raises `Unreadable`, `Full`, and what `index` raises.
        """
        await self._ready()
        given_up = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, self._add, name, file, given_up)
        except asyncio.CancelledError:
            given_up.set()
            raise

    async def drop(self, name: str) -> bool:
        """Delete an uploaded document, its text and its words, every byte; whether there was one. Raises as `index`."""
        await self._ready()
        return await asyncio.to_thread(self._drop, name)

    async def _ready(self) -> Index:
        """The index of the folder."""
        if self._building is None:
            raise SourceError("The documents are read when the application starts, and it has not started.")
        with _readable():
            return await asyncio.shield(self._building)

    def _build(self) -> Index:
        skipped: list[Skipped] = []
        index = Index.build(self._documents(skipped), way=self.way)
        log.info("%d documents, %d passages", index.documents, index.chunks)
        if not self._own:
            self.skipped = skipped
            _tell_skipped(skipped)
            self._uploaded = index
        self._follow()
        return index

    async def _caught_up(self) -> None:
        """Until the index has what others had changed by now. However many wait for it, one thread does it."""
        while await asyncio.to_thread(self._opened().version) != self._version:
            if self._catching_up is None or self._catching_up.done():
                self._catching_up = asyncio.create_task(asyncio.to_thread(self._follow))
                self._catching_up.add_done_callback(_heard)  # whoever waited may have left
            await asyncio.shield(self._catching_up)

    def _follow(self) -> None:
        """Bring the index to what is kept, whoever has changed it."""
        shelf = self._opened()
        with self._following:
            version = shelf.version()
            kept = {one.name: one for one in shelf.list()}
            for name in [name for name in self._held if name not in kept]:
                self._uploaded.remove(self._held.pop(name).entry)
            for one in kept.values():
                self._check_open()
                self._take(one)
            self._version = version

    def _take(self, one: Kept) -> None:
        old = self._held.get(one.name)
        if old is not None and old.kept == one:
            return
        document = self._opened().document(one.name)
        if document is not None:  # else it was deleted meanwhile: another version
            entry = self._uploaded.add(document, instead_of=None if old is None else old.entry)
            self._held[one.name] = Held(one, entry)

    def _documents(self, skipped: list[Skipped]) -> Iterator[Document]:
        for root in self._roots:
            for document in read_folder(root, skipped=skipped):
                self._check_open()
                within = f"{root.name}/{document.path}" if len(self._roots) > 1 and root.is_dir() else document.path
                yield dataclasses.replace(document, path=within)

    def _add(self, name: str, file: BinaryIO, given_up: threading.Event) -> Added:
        if given_up.is_set():
            raise Unreadable("the run was stopped")
        file.seek(0)
        data = file.read()
        document = read_document(name, data)
        if given_up.is_set():
            raise Unreadable("the run was stopped")
        self._check_open()
        replaced = self._opened().put(document, size=len(data), at=time.time())
        self._follow()
        held = self._held.get(name)  # unless it was deleted as soon as it was there
        return Added(name, document.title, 0 if held is None else len(held.entry.numbers), replaced)

    def _drop(self, name: str) -> bool:
        there = self._opened().drop(name)
        self._follow()
        return there

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise InterruptedError("the server is going")

    def _opened(self) -> Shelf:
        assert self._shelf is not None
        return self._shelf

    def _told(self, building: asyncio.Task[Index]) -> None:
        if not building.cancelled() and (error := building.exception()) and not isinstance(error, InterruptedError):
            log.error("the documents cannot be read", exc_info=error)


def _heard(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"The documents cannot be read: {error.strerror or error}.") from error


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
