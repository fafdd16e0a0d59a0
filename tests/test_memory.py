"""The memory watch: its judgement, what it reads, and a real process that ends a run before the system ends it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.server.chat import make_tide

from tidelog import memory
from tidelog.errors import InvalidRequest
from tidelog.memory import MemoryWatch, container, machine, reader, watch
from tidelog.testing import serve_process  # fmt: skip
from tidelog.testing import watch as view


class TestJudgement:
    def test_below_between_and_above(self) -> None:
        readings = iter([50, 100, 150, 200, 201, 201, 150, 201, 202, 99, 201])
        watching = MemoryWatch(100, 200, lambda: next(readings))
        assert [watching.look() for _ in range(11)] == [
            "ease", "refuse", "refuse", "refuse",
            "shed", "refuse",  # what was freed is used again, even if the system does not get it back
            "refuse", "refuse", "shed",  # more than ever
            "ease", "shed",
        ]  # fmt: skip


class TestMarks:
    def test_none_is_no_watch(self) -> None:
        assert watch(None) is None

    def test_bytes_and_shares(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "container", lambda: 1000)
        for marks in ((0.5, 900), (500, 0.9)):
            watching = watch(marks)
            assert watching is not None
            assert (watching._refuse_at, watching._shed_at) == (500, 900)

    def test_shares_are_of_the_machine_where_no_container_bounds_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "container", lambda: None)
        watching = watch((0.5, 1.0))
        assert watching is not None
        assert (watching._refuse_at, watching._shed_at) == (machine() / 2, machine())

    def test_a_container_is_watched_without_being_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "container", lambda: 1000)
        watching = watch("container")
        assert watching is not None
        assert (watching._refuse_at, watching._shed_at) == (800, 900)
        monkeypatch.setattr(memory, "container", lambda: None)
        assert watch("container") is None

    @pytest.mark.parametrize("marks", [(0, 5), (9, 5), (-1, 3)])
    def test_marks_that_make_no_sense(self, marks: Any) -> None:
        with pytest.raises(ValueError, match="memory_marks"):
            make_tide(memory_marks=marks)

    def test_without_a_way_to_read_it_is_a_sentence_only_for_who_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "container", lambda: 1000)
        monkeypatch.setattr(memory, "reader", lambda: None)
        assert watch("container") is None
        with pytest.raises(InvalidRequest, match=r"pip install 'tidelog\[memory\]'"):
            watch((0.5, 0.9))


class TestReading:
    def test_this_process(self) -> None:
        found = reader()
        assert found is not None
        before = found()
        kept = bytearray(64 * 1024 * 1024)
        kept[::4096] = b"x" * len(kept[::4096])
        assert found() - before > 48 * 1024 * 1024

    def test_elsewhere_with_the_extra_and_without(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = reader(tmp_path)
        assert found is not None
        assert found() > 1024 * 1024
        monkeypatch.setitem(sys.modules, "psutil", None)
        assert reader(tmp_path) is None

    @pytest.mark.parametrize(
        ("cgroup", "files", "limit"),
        [
            ("0::/", {"memory.max": "1000"}, 1000),
            ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "2000"}, 2000),
            ("0::/a", {"a/memory.max": "max"}, None),
            ("0::/not/here", {"memory.max": "1000"}, 1000),
            ("5:cpu,memory:/a\n3:cpuset:/", {"memory/a/memory.limit_in_bytes": "3000"}, 3000),
            ("5:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
            ("", {}, None),
        ],
    )
    def test_containers(self, tmp_path: Path, cgroup: str, files: dict[str, str], limit: int | None) -> None:
        (tmp_path / "cgroup").write_text(cgroup)
        for name, text in files.items():
            (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "fs" / name).write_text(f"{text}\n")
        assert container(tmp_path, tmp_path / "fs") == limit

    def test_no_proc_at_all(self, tmp_path: Path) -> None:
        assert container(tmp_path / "none", tmp_path) is None


HUNGRY = """
import asyncio
from fastapi import FastAPI
from tidelog import Tidelog
from tidelog.memory import reader

read = reader()
now = read()
tide = Tidelog("sqlite:///hungry.db", memory_marks=(now + 96 * 2**20, now + 160 * 2**20))
app = FastAPI()
app.include_router(tide.router)

@app.get("/eat")
@tide.stream
async def eat():
    kept = []
    yield "so far "
    while True:
        kept.append(b"x" * 2**22)
        if len(kept) % 10 == 0:
            yield "more " * 100
        await asyncio.sleep(0.02)

@app.get("/small")
@tide.stream
async def small():
    yield "small"
    await asyncio.Event().wait()
"""


def test_a_process_that_runs_out_ends_its_heaviest_run_and_lives(tmp_path: Path) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    with serve_process("hungry:app", cwd=tmp_path) as process:
        small = view(f"{process.url}/small")
        small.read(2)
        heavy = view(f"{process.url}/eat", timeout=30.0)
        last = heavy.rest()[-1].json
        assert (last["outcome"], last["error"]["code"]) == ("failed", "overloaded")
        found = httpx2.get(f"{process.url}/runs/{heavy.run}/transcript").json()
        assert found["text"].startswith("so far more ")
        assert httpx2.get(f"{process.url}/runs/{small.run}").json()["state"] == "running"
        small.close()
