"""Shutting down under a server that is not ours.

ASGI tells an application to stop only when every connection has closed, and open streams do not close by themselves. So the
signal is heard beside the server's own handler, which is called as before: viewers are sent away and the server's wait
comes to an end.
A viewer that never reads cannot be closed from within an application: after `force_after` seconds the server is told to stop
waiting, in the way that a second Ctrl-C does.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def on_signal(drain: Callable[[], None], *, force_after: float) -> Iterator[None]:
    """While the block lasts, call `drain` on the loop at SIGTERM and SIGINT, then the handler that was there before.

    Does nothing outside the main thread, or where the handler is not a function (a server that handles no signals in Python).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {sig: signal.getsignal(sig) for sig in SIGNALS}
    forced: list[asyncio.TimerHandle] = []

    def force() -> None:
        if callable(before[signal.SIGINT]) and before[signal.SIGINT] is not signal.default_int_handler:
            before[signal.SIGINT](signal.SIGINT, None)

    def begin() -> None:
        drain()
        if not forced:
            forced.append(loop.call_later(force_after, force))

    def heard(sig: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin)
        if callable(before[sig]):
            before[sig](sig, frame)

    hung = [sig for sig, handler in before.items() if callable(handler)]
    for sig in hung:
        signal.signal(sig, heard)
    try:
        yield
    finally:
        for handle in forced:
            handle.cancel()
        for sig in hung:
            if signal.getsignal(sig) is heard:
                signal.signal(sig, before[sig])
