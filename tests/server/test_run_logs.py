"""The log: two lines a run, their fields, and nothing that anybody said."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from tests.server.chat import Chat, make_tide, who
from tests.test_cli import PATIENCE, free_port, popen, until

from tidelog import SourceError, Usage
from tidelog.server.logs import FIELDS, JsonLines, TextLines
from tidelog.testing import Gate, Script, Server, serve

CANARY = "canary4711"
ANN = {"X-User": f"{CANARY}-ann", "Authorization": f"Bearer {CANARY}", "Cookie": f"k={CANARY}"}
OTHERS = ("httpx", "httpcore", "uvicorn.access")
"""The test's own client, and what `tidelog serve` leaves off."""


class Told(logging.Handler):
    """What everybody in this process logs, at every level; OTHERS aside."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(OTHERS):
            self.records.append(record)

    def fields(self, event: str) -> list[dict[str, Any]]:
        found = [getattr(record, FIELDS, {}) for record in self.records]
        return [one for one in found if one.get("event") == event]

    def ended(self, count: int = 1) -> list[dict[str, Any]]:
        """The fields of the lines at the end, once there are so many."""
        until(lambda: len(self.fields("run.ended")) >= count)
        return self.fields("run.ended")


@pytest.fixture
def told() -> Iterator[Told]:
    handler, root, ours = Told(), logging.getLogger(), logging.getLogger("tidelog")
    levels = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


class TestLines:
    def test_one_at_the_start_and_one_at_the_end(self, told: Told) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, Usage(input=3, output=2), tide=make_tide(principal=who)).app) as server:
            viewer = server.watch("/chat", headers={"X-User": "ann", "Thread-Id": "t1"})
            gate.reached()
            assert [len(told.fields(event)) for event in ("run.started", "run.ended")] == [1, 0]
            gate.open()
            viewer.rest()
            [end] = told.ended()
            state = server.client.get(viewer.headers["location"], headers={"X-User": "ann"}).json()
        [start] = told.fields("run.started")
        who_is_it = {"run": viewer.run, "thread": "t1", "route": "/chat", "principal": start["principal"]}
        assert start == {"event": "run.started", **who_is_it}
        assert end.pop("duration_ms") >= end.pop("first_event_ms") >= 0
        assert end.pop("bytes") > 0
        assert end == {
            "event": "run.ended", **who_is_it, "outcome": "completed", "records": state["last_seq"],
            "usage": {"input": 3, "output": 2, "source": "provider"},
        }  # fmt: skip

    def test_a_principal_is_the_same_and_nobody_knows_who(self, told: Told) -> None:
        for _ in range(2):
            with serve(Chat("Hi", tide=make_tide(principal=who)).app) as server:
                for name in ("ann", "ann", "bob"):
                    server.watch("/chat", headers={"X-User": name}).rest()
        told.ended(6)
        first, again, other, elsewhere, *_ = (one["principal"] for one in told.fields("run.started"))
        assert first == again
        assert len({first, other, elsewhere}) == 3, "another key in another process: no table of hashes helps"

    def test_what_failed_says_its_code(self, told: Told) -> None:
        codes = {"rate_limited": "rate_limited", "my.own-code": "my.own-code", f"no code {CANARY}": "other"}
        for given, logged in codes.items():
            with serve(Chat("Hi", SourceError("Sorry.", code=given)).app) as server:
                server.watch("/chat").rest()
                assert (told.ended()[-1]["outcome"], told.ended()[-1]["code"]) == ("failed", logged)
            told.records.clear()

    def test_a_run_that_is_found_by_its_key_starts_once(self, told: Told) -> None:
        with serve(Chat("Hi").app) as server:
            for _ in range(2):
                server.watch("/chat", params={"key": "k"}).rest()
            told.ended()
        assert len(told.fields("run.started")) == len(told.fields("run.ended")) == 1

    def test_what_goes_on_names_what_it_goes_on_from(self, told: Told) -> None:
        with serve(Chat("Hi").app) as server:
            run = server.watch("/chat").run
            told.ended()
            server.client.post(f"/runs/{run}/retry")
            told.ended(2)
        assert [(one.get("of"), one.get("mode")) for one in told.fields("run.started")] == [
            (None, None),
            (run, "retry"),
        ]

    def test_nothing_where_it_is_not_wanted(self, told: Told) -> None:
        logging.getLogger("tidelog").setLevel(logging.WARNING)
        chat = Chat("Hi")
        with serve(chat.app) as server:
            server.watch("/chat").rest()
            until(lambda: not chat.tide.metrics.witness.live)
        assert told.fields("run.started") == told.fields("run.ended") == []


class Quoting(Exception):
    """An exception that quotes what it was given, as those of validators and clients do."""


class TestCanary:
    """A word in the question (path, query, body), in headers, in a key, in the answer, and in what a source raises."""

    WAYS = ("completed", "failed", "told", "early", "invalid", "stalled", "stopped", "refused")

    @pytest.fixture
    def server(self) -> Iterator[Server]:
        app, tide = FastAPI(), make_tide(principal=who)
        app.include_router(tide.router)
        steps = {
            "completed": (CANARY, {"data": CANARY}),
            "failed": (CANARY, Quoting(f"cannot read {CANARY}")),
            "told": (CANARY, SourceError(f"Sorry, {CANARY}.")),
            "early": (Quoting(CANARY),),
            "invalid": (CANARY, {CANARY}),
            "stalled": (CANARY, Gate()),
            "stopped": (CANARY, Gate()),
        }

        @app.post("/ask/{way}/{question}")
        async def ask(way: str, question: str, request: Request) -> Response:
            body = await request.body()
            if way == "refused":
                raise Quoting(f"{question} {body!r}")
            limits: Any = {"gap_timeout": 0.2} if way == "stalled" else {}
            return tide.response(Script(*steps[way]), request=request, **limits)

        with serve(app) as server:
            yield server

    @pytest.mark.parametrize("way", WAYS)
    def test_is_in_no_line(self, server: Server, told: Told, way: str) -> None:
        headers = {**ANN, "Prefer": "respond-async", "Idempotency-Key": CANARY}
        path = f"/ask/{way}/{CANARY}?key={CANARY}&question={CANARY}"
        asked = server.client.post(path, json={"q": CANARY}, headers=headers)
        if way == "stopped":
            server.client.post(f"/runs/{asked.json()['run']}/stop", headers=ANN)
        if way != "refused":
            assert asked.status_code == 202
            [end] = told.ended()
            assert end["route"] == "/ask/{way}/{question}"
        lines = [JsonLines().format(record) for record in told.records]
        assert lines
        assert not [line for line in lines if CANARY in line]
        if way in ("failed", "early", "refused"):
            raised = [one for line in lines for one in json.loads(line).get("exception", ())]
            assert any("Quoting" in one and "File " in one for one in raised), "class and place are there"
        else:
            texts = [logging.Formatter().format(record) for record in told.records]
            assert not [text for text in texts if CANARY in text], "nor as text"


def test_lines_of_text_tell_the_time_as_logging_does() -> None:
    ours, theirs = TextLines("%(asctime)s %(message)s"), logging.Formatter("%(asctime)s %(message)s")
    for created in (1.0004, 1.9996, 1_700_000_000.25, 1_700_000_000.75, 1_700_000_001.0, 1_700_003_600.001):
        record = logging.makeLogRecord({"msg": "x", "created": created, "msecs": created % 1 * 1000})
        assert ours.format(record) == theirs.format(record)


class TestJsonLines:
    def line(self, **more: Any) -> dict[str, Any]:
        record = logging.makeLogRecord(
            {"name": "tidelog", "levelno": 30, "levelname": "WARNING", "created": 0.5, **more}
        )
        text = JsonLines().format(record)
        assert "\n" not in text
        found: dict[str, Any] = json.loads(text)
        return found

    def test_what_a_line_says(self) -> None:
        assert self.line(msg="%s\nnext", args=("你好",), tidelog={"run": "r", "bytes": 3}) == {
            "time": "1970-01-01T00:00:00.500Z", "level": "warning", "logger": "tidelog", "message": "你好\nnext",
            "run": "r", "bytes": 3,
        }  # fmt: skip

    def test_fields_replace_nothing_and_need_no_kind(self) -> None:
        line = self.line(msg="m", tidelog={"message": "other", "path": Path("a")})
        assert (line["message"], line["path"]) == ("m", "a")
        assert "tidelog" not in self.line(msg="m", tidelog="no fields")

    def test_exceptions_tell_where_and_not_what(self) -> None:
        try:
            try:
                raise KeyError(CANARY)
            except KeyError as error:
                raise Quoting(CANARY) from error
        except Quoting:
            line = self.line(msg="failed", exc_info=sys.exc_info())
        outer, inner = line["exception"]
        assert outer.startswith(f"{__name__}.Quoting\n")
        assert inner.startswith("builtins.KeyError\n")
        assert "test_exceptions_tell_where_and_not_what" in inner
        assert CANARY not in outer.replace("raise Quoting(CANARY)", "") + inner


APP = """
from fastapi import FastAPI
from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("memory:")
app.include_router(tide.router)

@app.get("/chat")
@tide.stream
async def chat(question: str):
    yield question

@app.get("/broken")
async def broken(question: str):
    raise ValueError(question)
"""


class TestServe:
    def test_every_line_is_json(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text(APP)
        port = free_port()
        process = popen(("serve", "app:app", "--log-format", "json", "--port", str(port)), tmp_path)
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: _answers(f"{url}/readyz"))
            assert CANARY in httpx2.get(f"{url}/chat?question={CANARY}", timeout=PATIENCE).text
            assert httpx2.get(f"{url}/broken?question={CANARY}", timeout=PATIENCE).status_code == 500
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        lines = [json.loads(line) for line in err.splitlines()]
        assert out == ""
        assert CANARY not in err
        assert any(line["message"].startswith(f"tidelog on {url} - ") for line in lines)
        events = [(line["event"], line["route"]) for line in lines if "event" in line]
        assert events == [("run.started", "/chat"), ("run.ended", "/chat")]
        [broken] = [line for line in lines if line["level"] == "error"]
        assert "builtins.ValueError" in broken["exception"][-1]

    def test_no_other_form(self, tmp_path: Path) -> None:
        process = popen(("serve", "--log-format", "xml"), tmp_path)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert "'json'" in err


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=PATIENCE).status_code == 200
    except httpx2.TransportError:
        return False
