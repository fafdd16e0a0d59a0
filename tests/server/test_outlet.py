"""Large writes go past the transport: in order, without waiting, and never to somebody else's socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from bench.sockets import kernel_bytes
from tests.parts import PATIENCE

from tidelog.server.outlet import LARGE, outlet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the transport writes everything")

SLICE = b"x" * 16 * 1024


class Ends(asyncio.Protocol):
    """The server's end of a connection."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.after: Callable[[], None] = lambda: None
        self.free = asyncio.Event()
        """Set while nothing waits for the socket."""
        self.free.set()

    def pause_writing(self) -> None:
        self.free.clear()

    def resume_writing(self) -> None:
        self.free.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.after()
        self.lost.set_result(exc)


@asynccontextmanager
async def connected(receive_buffer: int | None = None) -> AsyncIterator[tuple[Any, Ends, socket.socket]]:
    """A transport with small buffers, its protocol, and the peer's socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(SLICE))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, len(SLICE))
        with socket.socket() as peer:
            if receive_buffer is not None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            peer.settimeout(PATIENCE)
            peer.connect(listening.getsockname())
            accepted, _ = listening.accept()
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.connect_accepted_socket(Ends, accepted)
            try:
                yield transport, protocol, peer
            finally:
                transport.abort()
                await protocol.lost


def run(loop: str, main: Callable[[], Any]) -> None:
    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


loops = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


@loops
def test_everything_comes_once_and_in_order(loop: str) -> None:
    """Small, large and more than the socket takes; by the transport itself in between, as a server's own words."""
    random = Random(7)
    sizes = [random.choice((1, LARGE - 1, LARGE, 3000, 16 * 1024, 100_000)) for _ in range(300)]
    written = [bytes([number % 251]) * size for number, size in enumerate(sizes)]

    async def main() -> None:
        async with connected(4096) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            put = outlet(transport)
            reading = asyncio.create_task(asyncio.to_thread(read, peer, sum(sizes)))
            for number, data in enumerate(written):
                (transport.write if number % 7 == 3 else put)(data)
                if number % 5 == 0:
                    await protocol.free.wait()  # else the transport writes all the rest
            assert await reading == b"".join(written)

    run(loop, main)


@loops
def test_a_peer_that_reads_nothing_keeps_little_of_the_kernels_memory(loop: str) -> None:
    async def main() -> None:
        held = {}
        for way in ("transport", "outlet"):
            async with connected() as (transport, protocol, _):
                transport.set_write_buffer_limits(high=0)
                put = outlet(transport) if way == "outlet" else transport.write
                while await taken(protocol):
                    put(b"x" * 4300)
                held[way] = kernel_bytes(transport.get_extra_info("sockname")[1])
        assert held["outlet"] <= 32 * 1024 < held["transport"]

    run(loop, main)


@loops
def test_a_descriptor_is_never_somebody_elses(loop: str) -> None:
    """From the moment at which a transport is to be closed nothing is written to what was its descriptor."""

    async def main() -> None:
        async with connected() as (transport, protocol, _):
            put, descriptor = outlet(transport), transport.get_extra_info("socket").fileno()
            open_yet: list[int] = []
            protocol.after = lambda: open_yet.append(os.fstat(descriptor).st_ino)
            inode = os.fstat(descriptor).st_ino
            transport.abort()
            put(SLICE)
            await protocol.lost
            assert open_yet == [inode], "it is the connection's own until this is told that it has gone"
            await asyncio.sleep(0)
            mine, other = socket.socketpair()
            with mine, other:
                if mine.fileno() != descriptor:
                    os.dup2(mine.fileno(), descriptor)
                with contextlib.suppress(RuntimeError):  # uvloop's own, of a transport that is closed
                    put(SLICE)
                other.setblocking(False)
                with pytest.raises(BlockingIOError):
                    other.recv(1)
                if mine.fileno() != descriptor:
                    os.close(descriptor)

    run(loop, main)


@loops
def test_a_peer_that_has_gone_is_told_by_the_transport(loop: str) -> None:
    async def main() -> None:
        async with connected() as (transport, protocol, peer):
            put = outlet(transport)
            transport.pause_reading()  # so that it learns of it by writing alone
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()  # with a reset
            async with asyncio.timeout(PATIENCE):
                while not protocol.lost.done():
                    put(SLICE)
                    await asyncio.sleep(0)

    run(loop, main)


async def taken(protocol: Ends) -> bool:
    """Whether the kernel takes all that was written; what it has not taken within 0.2 s it takes when the peer reads."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await protocol.free.wait()
    return protocol.free.is_set()


def read(peer: socket.socket, size: int) -> bytes:
    """So many bytes."""
    found = bytearray()
    while len(found) < size:
        found += peer.recv(65536)
    return bytes(found)
