"""The command line, as users run it: real processes, a real server on a loopback port."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tidelog.cli import follow, remote, show
from tidelog.cli.trouble import Trouble

PATIENCE = 30.0
"""Seconds that a test waits for what must happen."""

APP = '''
import asyncio
import time
from pathlib import Path
from fastapi import FastAPI
from tidelog import Progress, SourceError, Sources, Tidelog, ToolEnded, ToolInput, ToolStarted

app = FastAPI()
tide = Tidelog(drain_timeout=60)
app.include_router(tide.router)
nothing = None

@app.get("/gated")
@tide.stream
async def gated():
    """Goes on when the file `gate` is there."""
    yield "one "
    yield "two "
    while not Path("gate").exists():
        await asyncio.sleep(0.02)
    yield "three "
    yield "four"

@app.get("/rich")
@tide.stream
async def rich():
    yield Progress(task="find", done=1, total=2, note="Searching")
    yield Sources([{"id": "s1", "title": "Guide", "heading": ["Install"], "url": "http://localhost/guide"}])
    yield ToolStarted(call="c1", name="search")
    yield ToolInput(call="c1", input={"q": "游标"})
    yield ToolEnded(call="c1", output=3)
    yield {"page": 1}
    yield "你好, "
    yield "world"

@app.get("/fast")
@tide.stream
async def fast():
    for number in range(100_000):
        yield f"word {number} "
        await asyncio.sleep(0)

@app.get("/blocking")
@tide.stream(close_timeout=0.1)
def blocking():
    """A call that blocks until the file `gate` is there."""
    try:
        Path("began").touch()
        while not Path("gate").exists():
            time.sleep(0.02)
        yield "done"
    finally:
        Path("finally").touch()

@app.get("/asking")
@tide.stream
async def asking():
    yield f"You said {await tide.ask('Send it?', options=['yes', 'no'])}, {await tide.ask('How many?', type=int)}."

@app.get("/failing")
@tide.stream
async def failing():
    yield "part"
    raise SourceError("The model is busy.", code="rate_limited")
'''


SLOW = """
import asyncio
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from fastapi import FastAPI
from tidelog import Tidelog

@asynccontextmanager
async def lifespan(app):
    Path("starting").touch()
    while not Path("gate").exists():
        await asyncio.sleep(0.02)
    with socket.socket() as sock:
        if "TAKE" in os.environ:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", int(os.environ["TAKE"])))
            sock.listen()
        yield

app = FastAPI(lifespan=lifespan)
tide = Tidelog()
app.include_router(tide.router)
"""


class Server:
    """`tidelog serve app:app` in a folder of its own. It can be stopped and started again at the same port."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] = {}) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._arguments = arguments
        self._env = env
        self.start()

    def start(self) -> None:
        """Start and wait for the line that says so."""
        command = ("serve", *self._arguments, "--port", str(self.port))
        self.process = popen(command, self._folder, stderr=subprocess.STDOUT, env=self._env)
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        while self.line and " INFO " in self.line:  # what is logged may come first
            self.line = self.process.stdout.readline()
        if not self.line.startswith("tidelog on "):
            self.process.kill()
            pytest.fail(self.line + self.end())

    def signal(self, what: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(what)

    def end(self) -> str:
        """Wait for the end; what was printed."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        return str(out)

    def launch(self, path: str) -> str:
        """Start a run that nobody watches; its id."""
        answer = httpx2.get(self.url + path, headers={"Prefer": "respond-async"}, timeout=PATIENCE)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run"])

    def state(self, run: str) -> dict[str, Any]:
        """What the server says of the run."""
        found: dict[str, Any] = httpx2.get(f"{self.url}/runs/{run}", timeout=PATIENCE).json()
        return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def popen(
    arguments: Sequence[str], folder: Path, *, stderr: int = subprocess.PIPE, env: Mapping[str, str] = {},
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDELOG_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tidelog", *arguments], cwd=folder, env={**clean, "PYTHONUNBUFFERED": "1", **env},
        stdout=subprocess.PIPE, stderr=stderr, stdin=stdin, text=True, encoding="utf-8",
    )  # fmt: skip


def run(*arguments: str, folder: Path, **env: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself."""
    with popen(arguments, folder, env=env) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, out, err


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(folder: Path, *arguments: str, env: Mapping[str, str] = {}) -> Iterator[Server]:
    (folder / "app.py").write_text(APP, encoding="utf-8")
    server = Server(folder, *arguments, env=env)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server in memory for the tests that leave it alone."""
    with serving(tmp_path_factory.mktemp("server"), "app:app", "--store", "memory:") as started:
        yield started


class TestServe:
    def test_first_line_names_url_and_file(self, tmp_path: Path) -> None:
        with serving(tmp_path, "app:app") as server:
            assert f"http://127.0.0.1:{server.port} " in server.line
            assert f"prompts and answers are kept in {tmp_path / 'tidelog.db'}" in server.line
            assert (tmp_path / "tidelog.db").exists()

    def test_an_application_without_a_lifespan(self, tmp_path: Path) -> None:
        (tmp_path / "bare.py").write_text(
            "async def app(scope, receive, send):\n"
            "    assert scope['type'] == 'http'\n"
            "    await send({'type': 'http.response.start', 'status': 204, 'headers': []})\n"
            "    await send({'type': 'http.response.body', 'body': b''})\n"
        )
        with serving(tmp_path, "bare:app") as server:
            assert "in the store that your application opens" in server.line
            assert httpx2.get(server.url, timeout=PATIENCE).status_code == 204

    @pytest.mark.parametrize(
        ("keys", "host", "open_to_all"),
        [(True, "0.0.0.0", False), (False, "0.0.0.0", True), (False, "127.0.0.1", False)],
    )
    def test_keys_of_the_built_in_applications(self, tmp_path: Path, keys: bool, host: str, open_to_all: bool) -> None:
        code, key, line = run("key", "ann", folder=tmp_path)
        assert code == 0
        (tmp_path / "keys").write_text(line)
        env = {"TIDELOG_API_KEYS": "keys"} if keys else {}
        arguments = ("--store", "memory:", "--host", host)
        with serving(tmp_path, *arguments, env=env) as server:
            assert ("WHOEVER REACHES IT" in server.line) == open_to_all
            asked = httpx2.get(f"{server.url}/documents", timeout=PATIENCE)
            assert asked.status_code == (401 if keys else 200)
            mine = httpx2.get(f"{server.url}/documents", headers={"X-API-Key": key.strip()}, timeout=PATIENCE)
            assert mine.status_code == 200

    def test_memory_says_so(self, server: Server) -> None:
        assert "kept in memory" in server.line

    def test_first_ctrl_c_exits(self, tmp_path: Path) -> None:
        """With a viewer on the line and after a run has ended."""
        (tmp_path / "gate").touch()
        with serving(tmp_path, "app:app") as server:
            assert httpx2.get(f"{server.url}/gated", timeout=PATIENCE).status_code == 200
            server.signal(signal.SIGINT)
            printed = server.end()
            assert server.process.returncode == 0
            assert "Traceback" not in printed
            assert "ERROR" not in printed

    def test_second_ctrl_c_waits_for_no_run(self, tmp_path: Path) -> None:
        with serving(tmp_path, "app:app") as server:
            server.launch("/gated")
            server.signal(signal.SIGINT)
            until(lambda: not _ready(server))
            server.signal(signal.SIGINT)
            printed = server.end()
            assert "Traceback" not in printed
            assert "ERROR" not in printed

    def test_port_in_use(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text(APP, encoding="utf-8")
        code, out, err = run("serve", "app:app", "--store", "memory:", "--port", str(server.port), folder=tmp_path)
        assert (code, out) == (1, "")
        assert err == f"tidelog: Port {server.port} of 127.0.0.1 is in use: choose another with --port.\n"

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_takes_no_connection_before_it_can_answer(self, tmp_path: Path, workers: str) -> None:
        """So that a balancer gives it to another process."""
        (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
        port = free_port()
        command = ("serve", "slow:app", "--port", str(port), "--workers", workers)
        with popen(command, tmp_path, stderr=subprocess.STDOUT) as process:
            try:
                until((tmp_path / "starting").exists)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), PATIENCE)
                (tmp_path / "gate").touch()
                assert process.stdout is not None
                assert process.stdout.readline().startswith("tidelog on ")
                assert httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE).status_code == 200
            finally:
                process.terminate()
                process.communicate(timeout=PATIENCE)

    def test_port_that_somebody_else_takes_meanwhile(self, tmp_path: Path) -> None:
        (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
        (tmp_path / "gate").touch()
        port = free_port()
        code, out, err = run("serve", "slow:app", "--port", str(port), folder=tmp_path, TAKE=str(port))
        assert (code, out) == (1, "")
        assert err == f"tidelog: Port {port} of 127.0.0.1 is in use: choose another with --port.\n"

    @pytest.mark.parametrize(
        ("arguments", "env", "code", "words"),
        [
            (["nowhere:app"], {}, 2, "There is no module 'nowhere' in"),
            (["app:application"], {}, 2, "The module 'app' has no 'application'"),
            (["app:nothing"], {}, 2, "The module 'app' has no 'nothing'"),
            (["app:PATH"], {}, 2, "The module 'app' has no 'PATH'"),
            (["app:tide.limits"], {}, 2, "is no application"),
            (["app.py"], {}, 2, "write app:app"),
            (["app:app", "--docs", "."], {}, 2, "--docs is for the built-in applications"),
            (["--docs", "nowhere"], {}, 2, "There is no folder or file nowhere"),
            (["app:app", "--store", "paper:"], {}, 1, "There is no store 'paper'"),
            (["app:app", "--store", "sqlite:///app.py"], {}, 1, "app.py is not a SQLite file"),
            (["app:app", "--store", "sqlite:///no/where.db"], {}, 1, "cannot be opened"),
            (["app:app"], {"TIDELOG_STOER": "x"}, 2, "Unknown setting TIDELOG_STOER"),
            (["app:app"], {"TIDELOG_PORT": "many"}, 2, "TIDELOG_PORT='many'"),
            (["app:app"], {"TIDELOG_LOG_LEVEL": "loud"}, 2, "TIDELOG_LOG_LEVEL='loud'"),
            (["app:app"], {"TIDELOG_API_KEYS": "ann:x"}, 2, "Tidelog(principal=api_keys(...))"),
            ([], {"TIDELOG_API_KEYS": "nowhere"}, 2, "TIDELOG_API_KEYS is neither a file that is there nor a list"),
            ([], {"TIDELOG_API_KEYS": ""}, 2, "TIDELOG_API_KEYS is neither a file that is there nor a list"),
            ([], {"TIDELOG_API_KEYS": "ann:short"}, 2, "TIDELOG_API_KEYS: The key of ann is shorter than 20"),
        ],
    )
    def test_what_cannot_be_served_is_told_in_a_sentence(
        self, tmp_path: Path, arguments: list[str], env: dict[str, str], code: int, words: str
    ) -> None:
        (tmp_path / "app.py").write_text(APP, encoding="utf-8")
        found, out, err = run("serve", *arguments, "--port", str(free_port()), folder=tmp_path, **env)
        assert (found, out) == (code, "")
        assert err.startswith("tidelog: ")
        assert words in err
        assert err.count("\n") == 1

    def test_a_store_of_its_own_is_not_overridden_silently(self, tmp_path: Path) -> None:
        (tmp_path / "own.py").write_text(APP.replace("Tidelog(", 'Tidelog("memory:", '), encoding="utf-8")
        code, _, err = run("serve", "own", "--store", "sqlite:///x.db", "--port", str(free_port()), folder=tmp_path)
        assert code == 2
        assert "own names its own store, memory:" in err

    def test_an_error_in_the_application_shows_its_traceback(self, tmp_path: Path) -> None:
        (tmp_path / "broken.py").write_text("import not_installed", encoding="utf-8")
        code, _, err = run("serve", "broken", "--port", str(free_port()), folder=tmp_path)
        assert code == 1
        assert "Traceback" in err
        assert "No module named 'not_installed'" in err


def _ready(server: Server) -> bool:
    try:
        return httpx2.get(f"{server.url}/readyz", timeout=PATIENCE).status_code == 200
    except httpx2.TransportError:
        return False


class TestTail:
    def test_text_goes_to_stdout_and_the_rest_to_stderr(self, server: Server, tmp_path: Path) -> None:
        identity = server.launch("/rich")
        code, out, err = run("tail", identity, "--url", server.url, folder=tmp_path)
        assert (code, out) == (0, "你好, world\n")
        assert err.splitlines() == [
            "progress find 1/2 Searching",
            "[s1] Guide (Install) http://localhost/guide",
            'tool search {"q": "游标"}',
            "tool search completed: 3",
            'data {"page": 1}',
            "completed",
        ]

    def test_json_is_the_log(self, server: Server, tmp_path: Path) -> None:
        identity = server.launch("/rich")
        until(lambda: bool(server.state(identity)["ended"]))
        code, out, err = run("tail", f"{server.url}/runs/{identity}/events?after=3", "--json", folder=tmp_path)
        lines = [json.loads(line) for line in out.splitlines()]
        assert (code, err) == (0, "")
        assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
        assert lines[0]["type"] == "run.started"
        assert lines[-1] == {**lines[-1], "type": "run.ended", "outcome": "completed"}

    def test_exit_code_of_a_failure(self, server: Server, tmp_path: Path) -> None:
        code, out, err = run("tail", server.launch("/failing"), "--url", server.url, folder=tmp_path)
        assert (code, out) == (3, "part\n")
        assert err == "failed: The model is busy. (rate_limited)\n"

    def test_stop_ends_it(self, server: Server, tmp_path: Path) -> None:
        identity = server.launch("/gated")
        with popen(("tail", identity, "--url", server.url), tmp_path) as tail:
            assert tail.stdout is not None
            assert tail.stdout.read(8) == "one two "
            assert run("stop", identity, "--url", server.url, folder=tmp_path) == (0, "stopped\n", "")
            assert tail.communicate(timeout=PATIENCE) == ("\n", "stopped\n")
            assert tail.returncode == 4
        assert run("stop", f"{server.url}/runs/{identity}", folder=tmp_path) == (0, "already_ended\n", "")

    def test_pause_and_resume_are_told(self, server: Server, tmp_path: Path) -> None:
        identity = server.launch("/gated")

        def ask(verb: str) -> tuple[int, str, str]:
            return run(verb, identity, "--url", server.url, folder=tmp_path)

        with popen(("tail", identity, "--url", server.url), tmp_path) as tail:
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert tail.stdout.read(8) == "one two "
            assert ask("pause") == (0, "paused\n", "")
            assert tail.stderr.readline() == "paused\n"
            assert ask("pause") == (0, "already_paused\n", "")
            assert ask("resume") == (0, "resumed\n", "")
            assert tail.stderr.readline() == "running\n"
            assert ask("resume") == (0, "not_paused\n", "")
            assert ask("stop") == (0, "stopped\n", "")
            tail.communicate(timeout=PATIENCE)
        assert ask("pause") == ask("resume") == (0, "already_ended\n", "")

    def test_a_question_is_told_and_answered(self, server: Server, tmp_path: Path) -> None:
        identity = server.launch("/asking")

        def say(*args: str) -> tuple[int, str, str]:
            return run("answer", identity, *args, "--url", server.url, folder=tmp_path)

        with popen(("tail", identity, "--url", server.url), tmp_path) as tail:
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert tail.stderr.readline() == "question q1: Send it? [yes / no]\n"
            code, out, err = say("q1", "perhaps")
            assert (code, out) == (1, "") and "The answer must be one of: yes, no. (invalid_answer)" in err
            assert say("q1", "yes") == (0, "answered\n", "")
            code, out, err = say("q1", "no")
            assert (code, out) == (1, "") and '(already_answered) It was decided: "yes"' in err
            assert say("q2", "three", "--json")[0] == 2
            assert say("q2", "3", "--json") == (0, "answered\n", "")
            out, err = tail.communicate(timeout=PATIENCE)
        assert out == "You said yes, 3.\n"
        assert 'question q1 answered: "yes"' in err and "question q2 answered: 3" in err

    def test_ctrl_c_leaves_and_does_not_stop(self, server: Server, tmp_path: Path) -> None:
        identity = server.launch("/gated")
        with popen(("tail", identity, "--url", server.url), tmp_path) as tail:
            assert tail.stdout is not None
            assert tail.stdout.read(8) == "one two "
            tail.send_signal(signal.SIGINT)
            _, err = tail.communicate(timeout=PATIENCE)
        assert tail.returncode == 130
        assert "The run goes on" in err
        assert "Traceback" not in err
        assert server.state(identity)["state"] == "running"
        httpx2.post(f"{server.url}/runs/{identity}/stop", timeout=PATIENCE)

    def test_resumes_over_a_restart(self, tmp_path: Path) -> None:
        """The server goes while the run is drained; what it writes meanwhile is read from the next one, once."""
        with serving(tmp_path, "app:app") as server:
            identity = server.launch("/gated")
            with popen(("tail", identity, "--url", server.url), tmp_path) as tail:
                assert tail.stdout is not None
                assert tail.stderr is not None
                assert tail.stdout.read(8) == "one two "
                server.signal(signal.SIGTERM)
                assert "lost" in tail.stderr.readline()
                (tmp_path / "gate").touch()
                server.end()
                server.start()
                out, err = tail.communicate(timeout=PATIENCE)
            assert (tail.returncode, out) == (0, "three four\n")
            assert err.splitlines()[-1] == "completed"

    def test_tells_what_a_killed_server_left(self, tmp_path: Path) -> None:
        with serving(tmp_path, "app:app") as server:
            identity = server.launch("/gated")
            with popen(("tail", identity, "--url", server.url), tmp_path) as tail:
                assert tail.stdout is not None
                assert tail.stdout.read(8) == "one two "
                server.signal(signal.SIGKILL)
                server.end()
                server.start()
                out, err = tail.communicate(timeout=PATIENCE)
            assert (tail.returncode, out) == (6, "\n")
            assert "interrupted" in err.splitlines()[-1]

    @pytest.mark.parametrize("command", ["tail", "stop", "pause", "resume"])
    def test_unknown_run(self, server: Server, tmp_path: Path, command: str) -> None:
        code, out, err = run(command, "nosuchrun", "--url", server.url, folder=tmp_path)
        assert (code, out) == (1, "")
        assert "There is no such run. (not_found)" in err

    @pytest.mark.parametrize("command", [["tail", "x"], ["stop", "x"], ["runs"]])
    def test_nobody_answers(self, tmp_path: Path, command: list[str]) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        code, out, err = run(*command, "--url", url, folder=tmp_path)
        assert (code, out) == (1, "")
        assert err.startswith(f"tidelog: Nobody answers on {url} ")


class TestRuns:
    def test_lists_mine_newest_first(self, server: Server, tmp_path: Path) -> None:
        first, second = server.launch("/failing"), server.launch("/rich")
        until(lambda: bool(server.state(second)["ended"] and server.state(first)["ended"]))
        code, out, _ = run("runs", "--url", server.url, "--limit", "2", folder=tmp_path)
        head, *rows = [line.split() for line in out.splitlines()]
        assert code == 0
        assert head == ["RUN", "STATE", "OUTCOME", "AGE", "ROUTE"]
        assert sorted((row[0], *row[1:3], row[-1]) for row in rows) == sorted(
            [(first, "ended", "failed", "/failing"), (second, "ended", "completed", "/rich")]
        )

    def test_sends_headers(self, server: Server, tmp_path: Path) -> None:
        """One that makes the caller look remote: lists answer on this machine only."""
        code, _, err = run("runs", "--url", server.url, "-H", "X-Forwarded-For: 192.0.2.1", folder=tmp_path)
        assert code == 1
        assert "not_found" in err

    def test_table(self) -> None:
        row = {"run": "r" * 26, "state": "running", "outcome": None, "created": 1000.0, "route": "/chat\x1b[2J"}
        assert show.table([row], now=1000.0 + 7200).splitlines() == [
            "RUN                         STATE    OUTCOME  AGE  ROUTE",
            "rrrrrrrrrrrrrrrrrrrrrrrrrr  running  -        2 h  /chat?[2J",
        ]


class TestAddress:
    @pytest.mark.parametrize(
        ("given", "address"),
        [
            ("abc", "http://h:1/api/runs/abc"),
            ("https://x.example/v1/runs/abc", "https://x.example/v1/runs/abc"),
            ("https://x.example/v1/runs/abc/events?after=2", "https://x.example/v1/runs/abc"),
            ("http://x.example/runs/abc?x=/runs/def", "http://x.example/runs/abc"),
        ],
    )
    def test_of_a_run(self, given: str, address: str) -> None:
        assert remote.run_address(given, "http://h:1/api/") == address

    @pytest.mark.parametrize("given", ["http://h/chat", "ftp://h/runs/a", "/runs/a", "a b", "http://h/runs/", "你好"])
    def test_of_nothing(self, given: str) -> None:
        with pytest.raises(Trouble):
            remote.run_address(given, "http://h:1")

    def test_headers(self) -> None:
        with remote.connect(["Authorization: Bearer a:b"]) as client:
            assert client.headers["authorization"] == "Bearer a:b"
        with pytest.raises(Trouble):
            remote.connect(["nothing"])


class Script(httpx2.BaseTransport):
    """Answers in order; keeps the requests."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Pieces(httpx2.SyncByteStream):
    """A body in pieces that breaks at its end."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error


def sse(*pieces: bytes, error: Exception | None = None) -> httpx2.Response:
    return httpx2.Response(200, stream=Pieces(*pieces, error=error))


def block(seq: int, event: dict[str, Any]) -> bytes:
    return f"id: r.1.{seq}\ndata: {json.dumps({'seq': seq, **event}, ensure_ascii=False)}\n\n".encode()


def text(seq: int, words: str) -> bytes:
    return block(seq, {"type": "text.delta", "part": "p1", "text": words})


def end(seq: int) -> bytes:
    return block(seq, {"type": "run.ended", "outcome": "completed"})


def watch(script: Script, patience: float = PATIENCE) -> tuple[list[follow.Frame], list[str]]:
    said: list[str] = []
    with httpx2.Client(transport=script) as client:
        return list(follow.frames(client, "http://h/runs/r", patience=patience, say=said.append)), said


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BACKOFF", (0.001, 0.002))


@pytest.mark.usefixtures("fast")
class TestFollow:
    def test_comes_back_with_its_position(self) -> None:
        broken = httpx2.ReadError("cut")
        script = Script(sse(text(2, "a"), text(3, "b")[:-1], error=broken), broken, httpx2.Response(503), sse(end(3)))
        frames, said = watch(script)
        assert [frame.id for frame in frames] == ["r.1.2", "r.1.3"]
        assert [request.headers.get("last-event-id") for request in script.asked] == [None, "r.1.2", "r.1.2", "r.1.2"]
        assert len(said) == 1

    def test_a_body_that_ends_without_an_ending_is_no_ending(self) -> None:
        frames, said = watch(Script(sse(text(2, "a")), sse(end(3))))
        assert len(frames) == 2
        assert said

    @pytest.mark.parametrize("why", ["reconnect", "reauth"])
    def test_the_servers_own_wish_comes_first(self, why: str) -> None:
        farewell = b'data: {"type":"%b","retry":1}\n\n' % why.encode()
        frames, _ = watch(Script(sse(text(2, "a"), farewell), sse(end(3))))
        assert [frame.event["type"] for frame in frames] == ["text.delta", "run.ended"]

    def test_nothing_left(self) -> None:
        frames, _ = watch(Script(sse(text(2, "a")), httpx2.Response(204)))
        assert len(frames) == 1

    def test_loss_is_told(self) -> None:
        problem = {"detail": "The cursor lies beyond what the log holds.", "code": "cursor_ahead"}
        with pytest.raises(Trouble, match="cursor_ahead"):
            watch(Script(sse(text(2, "a")), httpx2.Response(410, json=problem)))

    def test_gives_up_after_its_patience(self) -> None:
        with pytest.raises(Trouble, match=r"nobody has answered for 0 s"):
            watch(Script(sse(text(2, "a")), *[httpx2.ConnectError("no")] * 1000), patience=0)

    def test_every_chunk_boundary(self) -> None:
        """Lines end with LF alone: what Python calls a line break elsewhere is text."""
        words = "a\u2028b\u0085c\x0b你好😀"
        body = b": hb\n\n" + text(2, words) + end(3)
        for cut in range(len(body)):
            frames, _ = watch(Script(sse(body[:cut], body[cut:])))
            assert [frame.event.get("text") for frame in frames] == [words, None]


class TestTerminal:
    def test_text_cannot_steer_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Tty(io.StringIO):
            encoding = "utf-8"

            def isatty(self) -> bool:
                return True

        screen, out = show.Terminal(), Tty()
        monkeypatch.setattr(sys, "stdout", out)
        delta = {"type": "text.delta", "text": "a\x1b]0;title\x07\tb\x9b2J\n"}
        screen.show(follow.Frame("r.1.2", "", delta))
        assert (
            out.getvalue()
            == "a\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}\tb\N{REPLACEMENT CHARACTER}2J\n"
        )

    def test_lone_surrogates_and_poor_encodings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
        show.Terminal().show(follow.Frame("r.1.2", "", {"type": "text.delta", "text": "é\ud800好"}))
        assert raw.getvalue() == "é??".encode("latin-1")

    def test_unknown_events_are_passed_over(self, capsys: pytest.CaptureFixture[str]) -> None:
        screen = show.Terminal()
        screen.show(follow.Frame("r.1.2", "", {"type": "weather", "sunny": True}))
        assert capsys.readouterr() == ("", "")
