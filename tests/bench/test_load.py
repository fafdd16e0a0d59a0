"""The compiled programs count right: what is lost, what comes twice, tokens cut anywhere; and who holds kernel memory."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from bench.sockets import kernel_bytes
from bench.workloads.processes import quantile

from bench import build

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
LIMIT = 10.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(LIMIT)
        yield made


def answer(listener: socket.socket, parts: list[bytes]) -> list[bytes]:
    """Serves one viewer these parts, each in a write of its own; what it asked for, once the thread is through."""
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked.append(connection.recv(4096))
            for part in parts:
                connection.sendall(part)

    threading.Thread(target=serve, daemon=True).start()
    return asked


def client(port: int, *, expect: int, request: bytes = b"GET / HTTP/1.1\r\n\r\n", leave: int = 0) -> dict[str, int]:
    now = time.monotonic_ns()
    options = {
        "port": port, "streams": 1, "start": now, "ramp": 0, "from": 0, "to": now + int(LIMIT * 1e9),
        "until": now + int(LIMIT * 1e9), "expect": expect, "leave": leave,
    }  # fmt: skip
    command = [str(build.binary("client")), *(f"{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, input=request, capture_output=True, timeout=2 * LIMIT, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def tokens(*numbers: int) -> bytes:
    due = time.monotonic_ns()
    return b"".join(b'data: {"seq":%d,"text":"%d:%d;"}\n\n' % (number, number, due) for number in numbers)


def test_gaps_duplicates_and_what_never_came_are_counted(listener: socket.socket) -> None:
    answer(listener, [HEAD, tokens(0, 1, 3, 3, 2, 4)])
    seen = client(listener.getsockname()[1], expect=7)
    counted = {name: seen[name] for name in ("events", "gaps", "duplicates", "missing")}
    assert counted == {"events": 4, "gaps": 1, "duplicates": 2, "missing": 2}


def test_a_token_may_be_cut_anywhere(listener: socket.socket) -> None:
    body = b"x" * 100 + tokens(0) + b"y" * 100 + tokens(1)
    for cut in (*range(100, 160), *range(240, len(body))):
        answer(listener, [HEAD + body[:cut], body[cut:]])
        seen = client(listener.getsockname()[1], expect=2)
        assert (seen["events"], seen["gaps"], seen["duplicates"], seen["missing"]) == (2, 0, 0, 0), cut


def test_events_that_share_a_frame_count_each(listener: socket.socket) -> None:
    due = time.monotonic_ns()
    answer(listener, [HEAD, b'data: {"text":"' + b"".join(b"%d:%d;" % (n, due) for n in range(500)) + b'"}\n\n'])
    assert client(listener.getsockname()[1], expect=500)["events"] == 500


def test_a_viewer_that_has_all_may_leave(listener: socket.socket) -> None:
    """The other side would go on for ever."""
    asked = answer(listener, [HEAD, tokens(0, 1, 2)])
    seen = client(listener.getsockname()[1], expect=3, leave=1, request=b"GET /@@@@@ HTTP/1.1\r\n\r\n")
    assert (seen["events"], seen["failed"], seen["missing"]) == (3, 0, 0)
    assert asked == [b"GET /00000 HTTP/1.1\r\n\r\n"]


def test_a_refusal_is_a_failure(listener: socket.socket) -> None:
    answer(listener, [b"HTTP/1.1 503 Busy\r\n\r\n" + tokens(0)])
    seen = client(listener.getsockname()[1], expect=1)
    assert (seen["events"], seen["failed"]) == (0, 1)


def test_kernel_memory_is_that_of_the_servers_own_end(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as reader:
        writer, _ = listener.accept()
        with writer:
            before = kernel_bytes(port)
            writer.setblocking(False)
            sent = 0
            while True:
                try:
                    sent += writer.send(b"x" * 65536)
                except BlockingIOError:
                    break
            held = kernel_bytes(port) - before
            assert 0 < held < 4 * sent
            assert kernel_bytes(reader.getsockname()[1]) > 0, "the reader's end is another socket"


@pytest.mark.parametrize(("share", "expected"), [(0.5, 51.0), (0.99, 100.0), (0.0, 1.0)])
def test_quantile(share: float, expected: float) -> None:
    from array import array

    assert quantile(array("d", map(float, range(100, 0, -1))), share) == expected
