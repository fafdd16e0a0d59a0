"""`tidelog publish` as a shell uses it: real processes, real pipes, servers that die."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.test_cli import PATIENCE, Server, free_port, popen, run, serving, until

from tidelog.testing import watch

QUICK = """
from fastapi import FastAPI
from tidelog import Tidelog

app = FastAPI()
tide = Tidelog(lease_patience=0.5)
app.include_router(tide.router)
"""
WRITES = """
import sys, time
for n in range(int(sys.argv[1])):
    print("line", n, flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), "app:app", "--store", "memory:") as started:
        yield started


def log_of(server: Server, name: str) -> list[dict[str, Any]]:
    viewer = watch(f"{server.url}/runs/{name}/events", timeout=PATIENCE)
    return [frame.json for frame in viewer.rest()]


def text_of(log: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in log if event["type"] == "text.delta")


def publishing(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    process = popen(("publish", *arguments), folder, stdin=subprocess.PIPE)
    assert process.stdin is not None
    return process


def shell(command: str, folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "PYTHON": sys.executable, **values}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_a_pipe_of_the_shell(server: Server, tmp_path: Path) -> None:
    command = "printf 'Hello,\\n你好' | $PYTHON -m tidelog publish pipe --url $URL"
    done = shell(command, tmp_path, URL=server.url)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"tidelog tail {server.url}/runs/pipe\ncompleted\n"
    log = log_of(server, "pipe")
    assert text_of(log) == "Hello,\n你好"
    assert log[-1]["outcome"] == "completed"


def test_events_as_lines_copy_a_run(server: Server, tmp_path: Path) -> None:
    first = server.launch("/rich")
    command = "$PYTHON -m tidelog tail $RUN --url $URL --json | $PYTHON -m tidelog publish copy --url $URL --ndjson"
    done = shell(command, tmp_path, URL=server.url, RUN=first)
    assert done.returncode == 0, done.stderr
    own = ("seq", "from", "run", "thread", "message")

    def plain(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in event.items() if name not in own} for event in log[1:-1]]

    assert plain(log_of(server, "copy")) == plain(log_of(server, first))


@pytest.mark.parametrize(
    ("line", "words", "code"),
    [
        ("not json", "Line 2 is no event.", "invalid_request"),
        (json.dumps({"type": "run.ended", "outcome": "timed_out", "usage": {}, "can": []}), "timed_out", "internal"),
    ],
)
def test_lines_that_end_it_badly(server: Server, tmp_path: Path, line: str, words: str, code: str) -> None:
    first = json.dumps({"type": "data", "data": 1})
    name = f"bad-{code}"
    with publishing(tmp_path, name, "--url", server.url, "--ndjson") as process:
        _, err = process.communicate(f"{first}\n{line}\n", timeout=PATIENCE)
    assert process.returncode == 1
    assert words in err
    log = log_of(server, name)
    assert [event["type"] for event in log] == ["run.started", "data", "run.ended"]
    assert (log[-1]["outcome"], log[-1]["error"]["code"]) == ("failed", code)


def test_an_event_that_the_grammar_forbids(server: Server, tmp_path: Path) -> None:
    with publishing(tmp_path, "--url", server.url, "--ndjson") as process:
        _, err = process.communicate('{"type":"text.ended","part":"p1"}\n', timeout=PATIENCE)
    assert process.returncode == 1
    assert "text.ended: text 'p1' is absent" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_run(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    name = f"cut-{number.name}"
    with publishing(tmp_path, name, "--url", server.url) as process:
        assert process.stdin is not None
        process.stdin.write("so far")
        process.stdin.flush()
        with watch(until_there(server, name), timeout=PATIENCE) as viewer:
            viewer.read(2)
            process.send_signal(number)
            process.wait(PATIENCE)
            assert process.returncode == 130
            viewer.rest()
        process.stdin.close()
    log = log_of(server, name)
    assert (text_of(log), log[-1]["outcome"]) == ("so far", "stopped")


def test_stopping_closes_the_pipe(server: Server, tmp_path: Path) -> None:
    (tmp_path / "writes.py").write_text(WRITES)
    command = "$PYTHON writes.py 100000 0.01 2>writes.err | $PYTHON -m tidelog publish endless --url $URL; echo ${PIPESTATUS[@]}"
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "PYTHON": sys.executable, "URL": server.url}
    with subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        until_there(server, "endless")
        assert httpx2.post(f"{server.url}/runs/endless/stop", timeout=PATIENCE).json() == {"result": "stopped"}
        out, _ = process.communicate(timeout=PATIENCE)
    writer, publisher = out.split()
    assert publisher == "4"
    assert writer != "0", "the pipe broke"
    assert "BrokenPipeError" in (tmp_path / "writes.err").read_text()


def test_a_server_that_is_killed_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "writes.py").write_text(WRITES)
    (tmp_path / "quick.py").write_text(QUICK)
    with serving(tmp_path, "quick:app", "--store", "sqlite:///logs.db?beat=0.1") as server:
        command = "$PYTHON writes.py 300 0.01 | $PYTHON -m tidelog publish build --url $URL"
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "PYTHON": sys.executable, "URL": server.url}
        with subprocess.Popen(
            ["bash", "-c", command], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
        ) as process:
            with watch(until_there(server, "build"), timeout=PATIENCE) as viewer:
                viewer.read(3)
                server.process.kill()
                server.process.communicate(timeout=PATIENCE)
            server.start()
            _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert "Trying again" in err
        log = log_of(server, "build")
    assert text_of(log) == "".join(f"line {n}\n" for n in range(300))
    assert log[-1]["outcome"] == "completed"


def test_nobody_answers(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, out, err = run("publish", "--url", url, "--patience", "0.3", folder=tmp_path)
    assert (code, out) == (1, "")
    assert "nobody answers" in err


def test_an_id_that_is_none(tmp_path: Path) -> None:
    code, _, err = run("publish", "a.b", folder=tmp_path)
    assert (code, "neither a run's id" in err) == (2, True)


def until_there(server: Server, name: str) -> str:
    """The URL of the events, once the run has said something."""

    def there() -> bool:
        found = httpx2.get(f"{server.url}/runs/{name}", timeout=PATIENCE)
        return found.status_code == 200 and found.json()["last_seq"] > 1

    until(there)
    return f"{server.url}/runs/{name}/events"
