"""deploy/nginx.conf in a real nginx: nothing is held back, nobody is bound to a process, no request is sent twice unasked."""

from __future__ import annotations

import http.server
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from tests.nginx_server import CONFIG, PATIENCE, binary, in_turn, nginx, placed
from tests.redis_server import free_port
from tests.server.chat import JSON, Chat
from tests.server.sockets import talk

from tidelog.testing import Gate, Server, rebuild, serve, watch

STREAM = {"Accept": "text/event-stream"}


@contextmanager
def behind(*servers: Server, **changes: str) -> Iterator[str]:
    """nginx before these servers; `changes` are other values of its directives."""
    text = CONFIG.read_text(encoding="utf-8")
    found = {name: re.search(rf"\b{name} ([^;]*);", text) for name in changes}
    moved = {match[0]: f"{name} {changes[name]};" for name, match in found.items() if match}
    assert len(moved) == len(changes)
    with nginx({**in_turn([int(server.url.rpartition(":")[2]) for server in servers]), **moved}) as url:
        yield url


def test_its_own_tool_takes_it(tmp_path: Path) -> None:
    """As it is, but for port and folder."""
    (tmp_path / "nginx.conf").write_text(placed(tmp_path, free_port(), {}), encoding="utf-8")
    command = [binary(), "-t", "-q", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_words_come_as_they_are_said() -> None:
    gate = Gate()
    with serve(Chat("Hel", gate, "lo").app) as server, behind(server) as url:
        viewer = watch(f"{url}/chat")
        assert rebuild(viewer.until("text.delta")) == "Hel"
        gate.open()
        assert rebuild([*viewer.frames, *viewer.rest()]) == "Hello"


def test_a_websocket_is_passed_on() -> None:
    gate = Gate()
    with serve(Chat("Hel", gate, "lo").app) as server, behind(server) as url:
        run = httpx2.post(f"{url}/chat", headers={"Prefer": "respond-async"}).json()["run"]
        with talk(url, run) as viewer:
            assert viewer.until(type="text.delta")["text"] == "Hel"
            gate.open()
            assert viewer.until(type="run.ended")["outcome"] == "completed"


def test_where_nobody_is_an_event_source_is_told_to_come_back() -> None:
    with serve(Chat("on").app) as server:
        gone = server
    with behind(gone) as url:
        found = httpx2.get(f"{url}/chat", headers=STREAM)
        assert (found.status_code, found.headers["content-type"], found.text) == (
            200,
            "text/event-stream",
            "retry: 2000\n\n",
        )
        assert found.headers["cache-control"] == "no-store"
        assert httpx2.get(f"{url}/chat", headers={"Accept": JSON}).status_code == 502
        assert httpx2.post(f"{url}/chat", headers=STREAM).status_code == 502


def test_refusals_are_passed_on_as_they_are() -> None:
    """What the application says is its own: only where nobody answers nginx speaks."""
    with serve(Chat("on").app) as server, behind(server) as url:
        found = watch(f"{url}/runs/none/events")
        assert (found.status, found.json["code"]) == (404, "not_found")


def test_who_takes_no_connections_is_passed_over() -> None:
    with serve(Chat("on").app) as one:
        gone = one
    with serve(Chat("on").app) as server, behind(gone, server) as url:
        assert [rebuild(watch(f"{url}/chat").rest()) for _ in range(4)] == ["on"] * 4


def test_a_get_that_waits_long_is_started_once() -> None:
    """The default of nginx sends it to the next process as well, which would start it again."""
    chats = [Chat(Gate(), "on") for _ in range(2)]
    limits = {"proxy_read_timeout": "1s", "proxy_next_upstream_timeout": "500ms"}
    with serve(chats[0].app) as one, serve(chats[1].app) as two, behind(one, two, **limits) as url:
        assert httpx2.get(f"{url}/chat", headers={"Accept": JSON}, timeout=PATIENCE).status_code == 502
        assert sorted(chat.script.started for chat in chats) == [0, 1]
    given = dict(re.findall(r"(proxy_(?:read|next_upstream)_timeout) (\d+)s;", CONFIG.read_text(encoding="utf-8")))
    assert int(given["proxy_next_upstream_timeout"]) < int(given["proxy_read_timeout"])


class Named(http.server.BaseHTTPRequestHandler):
    """Says which address was asked."""

    def do_GET(self) -> None:
        said = str(self.server.server_address[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def names(*addresses: str) -> Iterator[int]:
    """The port of a name server that gives every name these addresses."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def answer() -> None:
        while (found := sock.recvfrom(512))[0] != b"over":
            query, asker = found
            records = [b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04" + socket.inet_aton(address) for address in addresses]
            head = query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, len(records), 0, 0)
            sock.sendto(head + query[12:] + b"".join(records), asker)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        sock.sendto(b"over", sock.getsockname())
        thread.join()
        sock.close()


def test_the_name_of_the_service_is_all_of_its_containers() -> None:
    """As docker compose names them: each of several addresses is asked, and one that is gone costs nobody anything."""
    port, addresses = free_port(), ("127.0.0.1", "127.0.0.2")
    servers = [http.server.ThreadingHTTPServer((address, port), Named) for address in addresses]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    with (
        names(*addresses) as asked,
        nginx({"resolver 127.0.0.11": f"resolver 127.0.0.1:{asked}", "web:8000": f"web:{port}"}) as url,
    ):
        until, found = time.monotonic() + PATIENCE, set[str]()
        while found != set(addresses):
            assert time.monotonic() < until
            found.add(httpx2.get(url).text)
        servers[0].shutdown()
        servers[0].server_close()
        assert {httpx2.get(url).text for _ in range(20)} == {addresses[1]}
    servers[1].shutdown()
    servers[1].server_close()
    for thread in threads:
        thread.join()
