"""A real server in this process: uvicorn, a free loopback port, a thread and a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import cached_property
from typing import Any, Final, TypeVar

import httpx2
import uvicorn

from tidelog.server.serve import BACKLOG, Outermost, Protocol, bind
from tidelog.testing.script import PATIENCE
from tidelog.testing.viewing import Request, Viewer

T = TypeVar("T")

GRACE: Final = 2
"""Seconds that open answers get when the server stops, after their connections were cut."""


class Server:
    """A running server. `client` and `async_client` are httpx2 clients of it; a viewer is opened by `watch`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.loop: asyncio.AbstractEventLoop
        """The server's loop, in its own thread: see `call`."""
        self._closing: list[httpx2.Client | Viewer] = []

    @cached_property
    def client(self) -> httpx2.Client:
        """For plain functions; closed with the server."""
        client = httpx2.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        self._closing.append(client)
        return client

    def async_client(self) -> httpx2.AsyncClient:
        """For coroutines: use it with `async with`."""
        return httpx2.AsyncClient(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def watch(self, path: str, method: str = "GET", **request: Any) -> Viewer:
        """A viewer of this path, as `tidelog.testing.watch` opens it; closed with the server at the latest."""
        viewer = Viewer(Request(self.url + path, method, **request))
        self._closing.append(viewer)
        return viewer

    def call(self, function: Callable[[], T | Awaitable[T]]) -> T:
        """Call (and await) this on the server's loop. Raises what it raises, `TimeoutError` after PATIENCE."""

        async def called() -> T:
            found = function()
            if isinstance(found, Awaitable):
                return await found
            return found

        running: Future[T] = asyncio.run_coroutine_threadsafe(called(), self.loop)
        return running.result(PATIENCE)

    def _close(self) -> None:
        for one in self._closing:
            one.close()


class serve:
    """`with serve(app) as server:`, or `async with`. At its end open connections are cut and the app is shut down.

    It is what `tidelog serve` runs; with `bare=True` it is uvicorn as it comes. `root_path` is uvicorn's.
    Runs that still live at the end are given the app's own `drain_timeout`: a test that leaves some sets it to 0.
    Raises `RuntimeError` if the application does not start.
    """

    def __init__(self, app: Any, *, bare: bool = False, root_path: str = "") -> None:
        self._socket = bind("127.0.0.1", 0) if not bare else _listen()
        self._uvicorn = _Uvicorn(_config(app, bare, root_path), self._socket)
        self._thread = threading.Thread(target=self._run, name="tidelog-test-server", daemon=True)
        self._error: BaseException | None = None
        self._server = Server(f"http://127.0.0.1:{self._socket.getsockname()[1]}")

    def __enter__(self) -> Server:
        self._thread.start()
        if not self._uvicorn.ready.wait(PATIENCE) or not self._uvicorn.started:
            self._stop()
            raise RuntimeError("the application did not start") from self._error
        self._server.loop = self._uvicorn.loop
        return self._server

    def __exit__(self, *exc_info: object) -> None:
        self._server._close()
        self._stop()
        if self._thread.is_alive():
            raise TimeoutError("the server does not stop: does the app wait for a live run? See its drain_timeout.")
        if self._error is not None:
            raise self._error

    async def __aenter__(self) -> Server:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self.__exit__)

    def _run(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._socket])
        except BaseException as error:
            self._error = error
        finally:
            self._uvicorn.ready.set()

    def _stop(self) -> None:
        self._uvicorn.stop()
        self._thread.join(PATIENCE + 2 * GRACE)
        self._socket.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn that tells when it is ready, stops when it is asked, and cuts what is still open."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, config: uvicorn.Config, sock: socket.socket) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._asked: asyncio.Event

    def stop(self) -> None:
        """From any thread."""
        self.should_exit = True
        with contextlib.suppress(AttributeError, RuntimeError):  # it never ran, or is gone
            self.loop.call_soon_threadsafe(self._asked.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop, self._asked = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in tuple(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        if tasks := set(self.server_state.tasks):
            _, stuck = await asyncio.wait(tasks, timeout=GRACE)
            for task in stuck:
                task.cancel()
        await self.lifespan.shutdown()


def _config(app: Any, bare: bool, root_path: str) -> uvicorn.Config:
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", root_path=root_path, backlog=BACKLOG,
        http="auto" if bare else Protocol, ws_per_message_deflate=False,
    )  # fmt: skip
    config.load()
    if not bare:
        config.loaded_app = Outermost(config.loaded_app)
    return config


def _listen() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(BACKLOG)
    return sock
