"""`tide.logs` through everything that happens to log files, and `tide.logging`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response

from tidelog import Tidelog
from tidelog.errors import InvalidRequest, NotFound
from tidelog.events import Data
from tidelog.limits import Limits
from tidelog.sources.logs import BACK_BYTES, MAX_LINE_BYTES, STEP_BYTES, _File, _Tap, logs, records
from tidelog.testing import serve

pytestmark = pytest.mark.anyio

PATIENCE = 10.0
POLL = 0.002
LOOKS = [0]
"""How often files were looked at."""


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    look = _File.look

    def counting(self: _File) -> Any:
        found = look(self)
        LOOKS[0] += 1
        return found

    monkeypatch.setattr(_File, "look", counting)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("tests.tapped")
    made.setLevel(logging.DEBUG)
    made.propagate = False
    yield made
    made.setLevel(logging.NOTSET)
    made.propagate = True


class Following:
    """Reads a source with patience."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source

    async def next(self, count: int = 1) -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            return [_plain(await anext(self._source)) for _ in range(count)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Begin to wait for a line that does not come, until this is true."""
        task = asyncio.ensure_future(anext(self._source))
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - a thread makes it true
                await asyncio.sleep(POLL)
        assert not task.done()
        self._source = _resumed(task, self._source)

    async def looked(self) -> None:
        """Until the file was looked at as it is now: one look may be half done."""
        seen = LOOKS[0]
        await self.until(lambda: LOOKS[0] > seen + 1)


async def _resumed(task: asyncio.Future[Any], source: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        yield await task
        async for each in source:
            yield each
    finally:
        task.cancel()
        await asyncio.wait([task])


def _plain(value: Data | str) -> Any:
    if isinstance(value, str):
        return value
    assert value.name == "log"
    return value.data["line"] if set(value.data) == {"line"} else value.data


@asynccontextmanager
async def following(path: Path, **options: Any) -> AsyncIterator[Following]:
    async with aclosing(logs(path, poll=POLL, **options)) as source:
        reading = Following(source)
        try:
            yield reading
        finally:
            if reading._source is not source:
                await reading._source.aclose()  # type: ignore[attr-defined]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def whole(path: Path, **options: Any) -> list[Any]:
    return [_plain(each) async for each in logs(path, follow=False, **options)]


async def test_begins_with_the_last_lines_and_goes_on(path: Path) -> None:
    append(path, "".join(f"{n}\n" for n in range(20)))
    async with following(path) as reading:
        assert await reading.next(10) == [str(n) for n in range(10, 20)]
        append(path, "new\n")
        assert await reading.next() == ["new"]


@pytest.mark.parametrize(
    ("last", "found"), [(None, ["a", "b", "c"]), (0, []), (1, ["c"]), (2, ["b", "c"]), (3, ["a", "b", "c"]), (9, ["a", "b", "c"])]
)  # fmt: skip
async def test_where_it_begins(path: Path, last: int | None, found: list[str]) -> None:
    append(path, "a\nb\nc\nunfini")
    async with following(path, last=last) as reading:
        assert await reading.next(len(found)) == found
        await reading.looked()
        append(path, "shed\n")
        assert await reading.next() == ["unfinished"], "and an unfinished line comes whole, once"


@pytest.mark.parametrize("last", [1, 700, 3000])
async def test_the_last_lines_of_a_long_file(path: Path, last: int) -> None:
    lines = [f"{n} {'x' * 100}" for n in range(2500)]
    assert sum(map(len, lines)) > 3 * STEP_BYTES
    append(path, "\n".join(lines) + "\n")
    assert await whole(path, last=last) == lines[-last:]


async def test_looks_back_only_so_far(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(BACK_BYTES + STEP_BYTES)
    append(path, "\nlast\n")
    found = await whole(path, last=5)
    assert found[-1] == "last"
    assert found[0]["cut"] + MAX_LINE_BYTES <= BACK_BYTES


async def test_a_file_that_is_not_there_yet(path: Path) -> None:
    async with following(path, last=0) as reading:
        await reading.looked()
        append(path, "first\n")
        assert await reading.next() == ["first"], "all of it is new"


async def test_rename_and_create_loses_no_line(path: Path) -> None:
    """The writer keeps the renamed file for a while, as it does with logrotate until it is told."""
    writer = path.open("a", buffering=1)
    async with following(path) as reading:
        writer.write("one\n")
        assert await reading.next() == ["one"]
        os.rename(path, path.with_suffix(".1"))
        append(path, "")
        await reading.looked()
        writer.write("two\npart")
        assert await reading.next() == ["two"]
        writer.write("ial\n")
        writer.write("left")
        writer.close()
        append(path, "three\n")
        assert await reading.next(3) == ["partial", "left", "three"]


async def test_what_is_written_while_the_new_file_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer's last line comes between the look that finds nothing more and the one that finds the new file."""
    stat, late = os.stat, ["late\n"]
    writer = path.open("a", buffering=1)

    def noticing(name: Any, **options: Any) -> os.stat_result:
        if name == str(path) and late and path.with_suffix(".1").exists():
            writer.write(late.pop())
        return stat(name, **options)

    writer.write("one\n")
    async with following(path) as reading:
        assert await reading.next() == ["one"]
        await reading.looked()
        append(path.with_suffix(".2"), "two\n")
        monkeypatch.setattr(os, "stat", noticing)
        os.link(path, path.with_suffix(".1"))
        os.replace(path.with_suffix(".2"), path)
        assert await reading.next(2) == ["late", "two"]
    writer.close()


async def test_rotation_again_and_again_under_a_busy_writer(path: Path) -> None:
    """A thread writes and rotates at its own pace; the reader sees each line once, in order."""
    seen = threading.Event()
    total, every = 3000, 500

    def rotate() -> None:
        file = path.open("w", buffering=1)
        for n in range(total):
            if n and n % every == 0:
                assert seen.wait(PATIENCE), "a rotation that is faster than the reader's look cannot be seen"
                seen.clear()
                path.rename(path.with_suffix(f".{n}"))
                file.close()
                file = path.open("w", buffering=1)
            file.write(f"{n}\n")
        file.close()

    append(path, "")
    async with following(path) as reading:
        await reading.looked()  # at the end of what there is, where it begins
        writing = asyncio.create_task(asyncio.to_thread(rotate))
        for n in range(total):
            assert await reading.next() == [str(n)]
            if n % every == 0:  # it stands in the newest file
                seen.set()
    await writing


async def test_copy_and_truncate(path: Path) -> None:
    append(path, "a long first line\n")
    async with following(path) as reading:
        await reading.next()
        os.truncate(path, 0)
        append(path, "x\n")
        assert await reading.next() == ["x"]


async def test_truncated_and_grown_again_beyond_the_place(path: Path) -> None:
    """The size alone does not tell."""
    append(path, "short\nrest")
    async with following(path) as reading:
        assert await reading.next() == ["short"]
        await reading.looked()
        write(path, b"another, longer line\nand one more\n")  # the same file, in place
        assert await reading.next(3) == ["rest", "another, longer line", "and one more"]


async def test_the_file_is_deleted_and_comes_back(path: Path) -> None:
    append(path, "before\n")
    async with following(path) as reading:
        await reading.next()
        os.unlink(path)
        await reading.looked()
        append(path, "after\n")
        assert await reading.next() == ["after"]


async def test_a_long_line_is_cut_and_says_so(path: Path) -> None:
    append(path, f"{'x' * 300_000}\n{'é' * 5}\nshort\n")
    assert await whole(path, max_line_bytes=7) == [
        {"line": "x" * 7, "cut": 299_993}, {"line": "ééé", "cut": 3}, "short",
    ]  # fmt: skip


async def test_no_line_is_too_large_for_a_run(path: Path) -> None:
    """Bytes that JSON escapes, in a line of the greatest length."""
    write(path, b"\x01" * (MAX_LINE_BYTES + 1) + b"\n")
    app, tide = made()

    @app.get("/log")
    async def log() -> Response:
        return tide.response(tide.logs(path, last=None, follow=False), default="json")

    with serve(app) as server:
        answer = server.client.get("/log").json()
    assert answer["outcome"] == "completed"
    assert len(answer["data"][0]["data"]["line"]) == MAX_LINE_BYTES


async def test_what_is_no_utf8_and_other_line_ends(path: Path) -> None:
    write(path, "grün\r\n\n".encode() + b"\xff!\nno end")
    assert await whole(path) == ["grün", "", "�!", "no end"]


async def test_json_lines(path: Path) -> None:
    append(path, '{"level": "info", "n": 1}\nplain\n[1]\n{"cut": \n')
    assert await whole(path, format="json") == [{"level": "info", "n": 1}, "plain", "[1]", '{"cut": ']


async def test_as_text(path: Path) -> None:
    append(path, "one\ntwo")
    assert await whole(path, format="text") == ["one\n", "two\n"]


async def test_what_is_no_file(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"app\.log"):
        await whole(path)
    with pytest.raises(InvalidRequest, match="no regular file"):
        await whole(tmp_path)
    os.mkfifo(path)
    with pytest.raises(InvalidRequest, match="no regular file"):
        await whole(path)


@pytest.mark.parametrize("wrong", [{"format": "xml"}, {"last": -1}, {"poll": 0}, {"max_line_bytes": 0}])
async def test_options_that_make_no_sense(path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        logs(path, **wrong)


async def test_stopping_the_run_closes_the_file(path: Path) -> None:
    append(path, "one\n")
    app, tide = made()

    @app.get("/log")
    async def log() -> Response:
        return tide.response(tide.logs(path, poll=60.0))

    with serve(app) as server:
        viewer = server.watch("/log")
        viewer.until("data")
        assert path in _open_files()
        assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
        assert viewer.until("run.ended")[-1].json["outcome"] == "stopped"
        assert path not in _open_files()


def _open_files() -> set[Path]:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return {Path(os.readlink(link)) for link in links if link.is_symlink()}


def made() -> tuple[FastAPI, Tidelog]:
    app, tide = FastAPI(), Tidelog("memory:", drain_timeout=0, limits=Limits(gap_timeout=60.0))
    app.include_router(tide.router)
    return app, tide


class TestLogging:
    async def test_what_is_logged_while_it_listens(self, logger: logging.Logger) -> None:
        logger.warning("before")
        async with aclosing(records(logger=logger, level="INFO")) as source:
            reading = Following(source)
            await reading.until(lambda: tapped(logger))
            logger.debug("too low")
            logger.getChild("below").info("hello %s", "you")
            (found,) = await reading.next()
            assert (found["level"], found["logger"], found["message"]) == ("INFO", "tests.tapped.below", "hello you")
            assert found["time"] > 1e9
            await reading._source.aclose()  # type: ignore[attr-defined]

    async def test_an_exception_is_told(self, logger: logging.Logger) -> None:
        async with listening(logger) as reading:
            try:
                raise ValueError("bad value")
            except ValueError:
                logger.exception("failed")
            (found,) = await reading.next()
            assert "bad value" in found["error"]
            assert found["message"] == "failed"

    async def test_from_any_thread_in_the_order_of_each(self, logger: logging.Logger) -> None:
        async with listening(logger, buffer=10_000) as reading:
            threads = [threading.Thread(target=_log_many, args=(logger, name, 500)) for name in "abcd"]
            for thread in threads:
                thread.start()
            found = await reading.next(2000)
            for thread in threads:
                thread.join()
            for name in "abcd":
                mine = [each["message"] for each in found if each["message"].startswith(name)]
                assert mine == [f"{name} {n}" for n in range(500)]

    async def test_a_full_buffer_drops_the_oldest_and_tells_how_many(self, logger: logging.Logger) -> None:
        async with listening(logger, buffer=3) as reading:
            _log_many(logger, "n", 10)
            found = await reading.next(4)
            assert found[0] == {"dropped": 7}
            assert [each["message"] for each in found[1:]] == ["n 7", "n 8", "n 9"]
            logger.info("later")
            assert (await reading.next())[0]["message"] == "later", "told once"

    async def test_as_text(self, logger: logging.Logger) -> None:
        async with listening(logger, buffer=1, format="text") as reading:
            logger.info("one")
            logger.warning("two")
            assert await reading.next(2) == ["(1 log records were dropped)\n", "WARNING tests.tapped: two\n"]

    async def test_arguments_are_read_at_once_and_bounded(self, logger: logging.Logger) -> None:
        async with listening(logger) as reading:
            changing = ["then"]
            logger.info("%s", changing)
            changing[0] = "now"
            logger.info("é" * MAX_LINE_BYTES)
            first, second = await reading.next(2)
            assert first["message"] == "['then']"
            assert second["message"] == "é" * (MAX_LINE_BYTES // 4)

    async def test_a_record_that_cannot_be_made_harms_nobody(
        self, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging, "raiseExceptions", False)
        async with listening(logger) as reading:
            logger.info("%d", "no number")
            logger.info("fine")
            assert (await reading.next())[0]["message"] == "fine"

    async def test_removed_when_the_run_ends(self, logger: logging.Logger) -> None:
        app, tide = made()

        @app.get("/log")
        async def log() -> Response:
            return tide.response(tide.logging(logger=logger.name))

        with serve(app) as server:
            viewer = server.watch("/log", params={"dialect": "simple"})
            wait_for(lambda: tapped(logger))
            logger.info("seen")
            (frame,) = viewer.read(1)
            assert json.loads(frame.data or "")["message"] == "seen"
            server.client.post(f"/runs/{viewer.run}/stop")
            wait_for(lambda: not tapped(logger))

    async def test_options_that_make_no_sense(self) -> None:
        for wrong in ({"format": "json"}, {"buffer": 0}):
            with pytest.raises(InvalidRequest):
                records(**wrong)  # type: ignore[arg-type]


@asynccontextmanager
async def listening(logger: logging.Logger, **options: Any) -> AsyncIterator[Following]:
    async with aclosing(records(logger=logger, **options)) as source:
        reading = Following(source)
        await reading.until(lambda: tapped(logger))
        try:
            yield reading
        finally:
            await reading._source.aclose()  # type: ignore[attr-defined]


def tapped(logger: logging.Logger) -> bool:
    """Whether somebody listens; pytest has handlers of its own."""
    return any(isinstance(each, _Tap) for each in logger.handlers)


def _log_many(logger: logging.Logger, name: str, count: int) -> None:
    for n in range(count):
        logger.info("%s %d", name, n)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError("it never came true")
