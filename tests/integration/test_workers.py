"""Several workers on one port: `tidelog serve --workers`, and uvicorn's own. One dies, all go, none starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import httpx2
import pytest
from tests.conftest import count
from tests.integration.crowd import TIMEOUT, check_kept, launch, noted, start, state, stop, until
from tests.test_cli import free_port, popen

from tidelog.testing import Process, watch

DRAIN = 1.0
NOISE = 4.0
"""Seconds that a busy machine may add to a promise."""
COUNT = 3


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """`tidelog serve` in a folder, and what it prints; it is killed at the end."""
    command = ("serve", *arguments, "--port", str(free_port()))
    with popen(command, folder, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def url_in(printed: IO[str]) -> str:
    """Wait for the line that says where it serves."""
    while not (line := printed.readline()).startswith("tidelog on "):
        assert line, "it ended"
    return line.split()[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Process]:
    """For the tests that leave as many as they found."""
    with of_workers(folder, COUNT) as process:
        yield process


def of_workers(folder: Path, count: int, drain_timeout: float = DRAIN) -> Process:
    process = start(folder, env={"TIDELOG_WORKERS": str(count), "APP_DRAIN_TIMEOUT": str(drain_timeout)})
    workers(process.url, count)
    return process


def workers(url: str, count: int = COUNT, *, without: int = 0) -> set[int]:
    """Wait until so many answer, and not this one; who they are."""
    found: set[int] = set()

    def all_answer() -> bool:
        with ThreadPoolExecutor(8) as pool:
            found.update(pool.map(lambda _: int(watch(f"{url}/where", accept=None).json), range(16)))
        return len(found - {without}) >= count

    until(all_answer)
    return found - {without}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")


def worker_of(folder: Path, run: str) -> int:
    """Who owns the run, once its source is at work."""
    until(lambda: (folder / "notes" / run).exists() and bool((folder / "notes" / run).read_text()))
    return noted(folder, run)[0]


def launch_in_all(folder: Path, url: str) -> dict[int, list[str]]:
    """Runs without an end, until every worker owns one: by worker."""
    found: dict[int, list[str]] = {}

    def one_each() -> bool:
        with ThreadPoolExecutor(6) as pool:
            for run in pool.map(lambda _: launch(url), range(6)):
                found.setdefault(worker_of(folder, run), []).append(run)
        return len(found) == COUNT

    until(one_each)
    return found


def test_one_port_many_processes(folder: Path, served: Process) -> None:
    """The line stands once, and whoever is asked knows every run."""
    assert len(workers(served.url)) == COUNT
    runs = [run for each in launch_in_all(folder, served.url).values() for run in each]
    for run in runs:
        assert stop(served.url, run) == "stopped"
        assert check_kept(folder, served.url, run) == "stopped"
    until(lambda: "tidelog on" in served.output)
    assert served.output.count("tidelog on") == 1
    assert f" - {COUNT} workers; " in served.output


def test_one_that_is_killed_is_replaced(folder: Path, served: Process) -> None:
    """Its runs end as interrupted, those of the others go on."""
    before = workers(served.url)
    runs = launch_in_all(folder, served.url)
    victim = min(before)
    begun = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    for run in runs[victim]:
        until(lambda run=run: state(served.url, run)["state"] == "ended", 15.0)
        assert check_kept(folder, served.url, run) == "interrupted"
    assert time.monotonic() - begun < 15.0
    after = workers(served.url, without=victim)
    assert len(before & after) == COUNT - 1
    for pid in before - {victim}:
        assert {state(served.url, run)["state"] for run in runs[pid]} == {"running"}
    assert f"worker {victim} ended (SIGKILL), another one starts\n" in served.output
    assert served.output.count("tidelog on") == 1


def test_one_that_is_asked_to_go_is_replaced(folder: Path, served: Process) -> None:
    """Which is how the code of all is renewed, one after the other: its runs have their time to end."""
    leaving = min(workers(served.url))
    mine = ""
    while not mine or worker_of(folder, mine) != leaving:
        mine = launch(served.url, to=20, pause=0.02)
    os.kill(leaving, signal.SIGTERM)
    assert len(workers(served.url, without=leaving)) == COUNT
    until(lambda: state(served.url, mine)["state"] == "ended")
    assert check_kept(folder, served.url, mine) == "completed"


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT][: count(1, 2)], ids=lambda number: number.name)
def test_all_go(tmp_path: Path, number: int) -> None:
    """Viewers are sent away at once, runs get their time; nobody is left."""
    with of_workers(tmp_path, 2) as process:
        pids = workers(process.url, 2)
        viewers = [watch(f"{process.url}/numbers") for _ in range(9)]
        short = watch(f"{process.url}/numbers", params={"to": "20", "pause": "0.02"})
        for viewer in (*viewers, short):
            viewer.read(3)
        begun = time.monotonic()
        process.signal(number)
        for viewer in viewers:
            assert viewer.rest()[-1].json["type"] == "reconnect"
            assert viewer.complete
        assert time.monotonic() - begun < 1.0 + NOISE
        short.rest()
        left = DRAIN + 2.0 + NOISE - (time.monotonic() - begun)
        assert process.wait(left) == (0 if number == signal.SIGINT else -number)
        assert not any(alive(pid) for pid in pids)
        assert "Traceback" not in process.output
        assert "another one starts" not in process.output
    with start(tmp_path) as later:
        assert {check_kept(tmp_path, later.url, viewer.run) for viewer in viewers} == {"interrupted"}
        assert check_kept(tmp_path, later.url, short.run) == "completed"


def test_second_ctrl_c_waits_for_no_run(tmp_path: Path) -> None:
    with of_workers(tmp_path, 2, 60.0) as process:
        with watch(f"{process.url}/numbers") as viewer:
            viewer.read(3)
            process.signal(signal.SIGINT)
            viewer.rest()
        process.signal(signal.SIGINT)
        process.wait(10.0)
        assert "Traceback" not in process.output


def test_nobody_outlives_the_one_who_watches(tmp_path: Path) -> None:
    with of_workers(tmp_path, 2) as process:
        pids = workers(process.url, 2)
        process.kill()
        until(lambda: not any(alive(pid) for pid in pids), DRAIN + 2.0 + NOISE)


def test_one_that_hangs_is_killed(tmp_path: Path) -> None:
    (tmp_path / "hung.py").write_text(
        "import time\nfrom fastapi import FastAPI\nfrom tidelog import Tidelog\n"
        "app = FastAPI()\ntide = Tidelog(drain_timeout=0.2)\napp.include_router(tide.router)\n"
        "@app.get('/hang')\nasync def hang():\n    open('hung', 'w').close()\n    time.sleep(3600)\n"
    )
    with serving(tmp_path, "hung:app", "--workers", "2") as (process, out):
        url = url_in(out)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lambda: httpx2.get(f"{url}/hang", timeout=TIMEOUT))
            until((tmp_path / "hung").exists)
            process.send_signal(signal.SIGTERM)
            printed, _ = process.communicate(timeout=0.2 + 2.0 + NOISE)
            assert isinstance(asked.exception(), httpx2.TransportError)
    assert "does not end and is killed" in printed


BREAKABLE = """
import pathlib
if pathlib.Path("broken").exists():
    raise SystemExit("broken")
from fastapi import FastAPI
from tidelog import Tidelog
import os
app = FastAPI()
tide = Tidelog()
app.include_router(tide.router)
@app.get("/where")
def where() -> int:
    return os.getpid()
"""


@pytest.mark.soak
def test_it_gives_up_when_nobody_can_start_any_more(tmp_path: Path) -> None:
    if count(0, 1) == 0:
        pytest.skip("starts ten processes: with SOAK=1")
    (tmp_path / "breakable.py").write_text(BREAKABLE)
    with serving(tmp_path, "breakable", "--workers", "2") as (process, out):
        url = url_in(out)
        pids = workers(url, 2)
        (tmp_path / "broken").touch()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        printed, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "another one starts in 1 s" in printed
    assert printed.splitlines()[-1].startswith("tidelog: The application did not start: worker ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--store", "memory:"], 2, "3 workers cannot share a store in memory: name a file"),
        (["own:app"], 2, "3 workers cannot share a store in memory: name a file"),
        (["dying"], 1, "The application did not start: worker "),
        (["own", "--store", "sqlite:///own.py"], 2, "own names its own store, memory:"),
    ],
)
def test_what_cannot_be_served_is_told_once(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "own.py").write_text(BREAKABLE.replace("Tidelog()", "Tidelog('memory:')"))
    (tmp_path / "dying.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    with serving(tmp_path, *arguments, "--workers", "3") as (process, _):
        printed, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code
    assert words in printed
    assert printed.startswith("tidelog: ")
    assert printed.count("\n") == 1


def test_uploads_are_seen_by_all(tmp_path: Path) -> None:
    """Of the built-in applications: one index a process, one file of documents for all."""
    with serving(tmp_path, "--workers", "3") as (process, out):
        url = url_in(out)
        with httpx2.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            for name, hour in (("gate.md", "nine"), ("gate.md", "ten"), ("lamp.md", "noon")):
                text = f"# {name}\n\nThe copper {name[:4]} opens at {hour}. Nobody opens it earlier.\n"
                run = client.post("/documents", files=[("files", (name, text.encode()))]).json()["run"]
                assert client.get(f"/runs/{run}/transcript").status_code == 200
                until(lambda run=run: state(url, run)["state"] == "ended")

        def told(_: int) -> str:
            question = {"question": "When does the copper gate open?"}
            return str(watch(f"{url}/rag", params=question, accept="application/json", timeout=TIMEOUT).json["text"])

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(told, range(24)))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20.0)
    assert {("opens at ten" in answer, "nine" in answer) for answer in answers} == {(True, False)}, set(answers)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["tidelog.db", "tidelog.documents.db"]


def test_under_uvicorn_with_workers(tmp_path: Path) -> None:
    """The user's own `uvicorn module:app --workers 4`: nothing of it needs `tidelog serve`."""
    with start(tmp_path, kind="uvicorn", env={"WEB_CONCURRENCY": str(COUNT), "APP_DRAIN_TIMEOUT": "1"}) as process:
        pids = workers(process.url)
        runs = launch_in_all(tmp_path, process.url)
        victim, *others = sorted(runs)
        viewer = watch(f"{process.url}/runs/{runs[victim][0]}/events")
        os.kill(victim, signal.SIGKILL)
        for run in runs[victim]:
            until(lambda run=run: state(process.url, run)["state"] == "ended", 15.0)
            assert check_kept(tmp_path, process.url, run) == "interrupted"
        viewer.close()
        for run in (run for pid in others for run in runs[pid]):
            assert stop(process.url, run) == "stopped"
            assert check_kept(tmp_path, process.url, run) == "stopped"
        last = launch(process.url)
        process.terminate()
        process.wait(1.0 + 2.0 + NOISE)
    until(lambda: not any(alive(pid) for pid in pids))
    with start(tmp_path) as later:
        assert check_kept(tmp_path, later.url, last) == "interrupted"
