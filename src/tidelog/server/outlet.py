"""Writes to a socket past its transport, so that a viewer that reads nothing keeps little of the kernel's memory.

Linux looks at the limits of a socket's buffer when it begins a segment, and goes on filling the last one, which is not sent yet,
without looking: 50 KB stay behind for a peer that reads nothing, whatever the limits are. MSG_EOR ends the segment with the
write, if all of it is taken (tcp_sendmsg_locked; Linux 4.7), and no transport can be told to use it.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

LARGE: Final = 1024
"""Bytes from which on a write goes this way. Small ones end a segment by themselves: it has room for 17 pieces, and what a server
writes to many does not lie side by side.
"""


def _send() -> Any:
    """send(2), called without letting go of the interpreter, as it never waits: others might not give that back for long."""
    if sys.platform != "linux":
        return None
    found = ctypes.PyDLL(None).send
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    found.restype = ctypes.c_ssize_t
    return found


SEND: Final = _send()
FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL | socket.MSG_EOR if SEND is not None else 0


class Outlet:
    """The way to the socket of a plain TCP transport."""

    __slots__ = ("_descriptor", "_transport")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._descriptor: int = transport.get_extra_info("socket").fileno()

    def put(self, data: bytes) -> None:
        """Write, or let the transport write what the socket does not take now. It keeps the order, and learns of errors."""
        transport = self._transport
        if len(data) >= LARGE and not transport.get_write_buffer_size() and not transport.is_closing():
            sent = SEND(self._descriptor, data, len(data), FLAGS)  # it is closed only after that says so
            if sent == len(data):
                return
            if sent > 0:
                data = data[sent:]
        transport.write(data)


def outlet(transport: asyncio.WriteTransport) -> Callable[[bytes], None]:
    """What writes to this connection."""
    return transport.write if SEND is None else Outlet(transport).put
