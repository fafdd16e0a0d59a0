"""Work elsewhere, with the queue in the test's hand: what is queued, taken, refused, and begun again (spec §10)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from math import inf
from typing import Annotated, Any

import msgspec
import pytest
from celery import Celery
from fastapi import Depends, FastAPI, Request
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from taskiq import InMemoryBroker
from taskiq.message import BrokerMessage
from tests.parts import PATIENCE, legal_events, records_of
from tests.server.chat import who

from tidelog import Tidelog, cancel_after, control, current_run, patience
from tidelog import events as e
from tidelog import head as heads
from tidelog.elsewhere import RESTARTS, WORK_BYTES
from tidelog.errors import InvalidRequest, NotFound, Unavailable
from tidelog.log import Lease, run_log
from tidelog.reentry import controls
from tidelog.seams import Parking
from tidelog.taking import number
from tidelog.testing import Server, serve


class Queue(InMemoryBroker):
    """A broker in memory that delivers at once, or when it is told to; `away`: it takes nothing."""

    def __init__(self, *, holds: bool = False) -> None:
        super().__init__()
        self.holds = holds
        self.away = False
        self.sent: list[BrokerMessage] = []

    async def kick(self, message: BrokerMessage) -> None:
        if self.away:
            raise ConnectionError("nobody there")
        self.sent.append(message)
        if not self.holds:
            await super().kick(message)

    async def deliver(self) -> None:
        """All that was sent so far, once more if it was delivered before."""
        for message in tuple(self.sent):
            await super().kick(message)


class Order(BaseModel):
    title: str
    when: Annotated[float, "a mark of nobody's"] = 0.0


def named(request: Request) -> str:
    return str(request.headers.get("x-name", "nobody"))


class App:
    """`ran` are the arguments and the attempts of what has begun."""

    def __init__(self, *, holds: bool = False, store: str = "memory:", **settings: Any) -> None:
        self.queue = Queue(holds=holds)
        self.tide = tide = Tidelog(store, worker=self.queue, **{"drain_timeout": 0.0, **settings})
        self.app = FastAPI()
        self.app.include_router(tide.router)
        self.ran: list[Any] = []
        self.gate = asyncio.Event()
        self._add()
        self._add_others()

    def _add(self) -> None:
        tide = self.tide

        @self.app.post("/say")
        @tide.stream(on="worker", message="title", on_interrupt="restart")
        async def say(order: Order, name: Annotated[str, Depends(named)], times: int = 1) -> AsyncIterator[str]:
            """Bodies, queries and dependencies come as they were."""
            assert isinstance(order, Order)
            run = current_run()
            self.ran.append((order.title, name, times, run.mode, run.partial, run.head.principal))
            tide.emit({"history": await tide.history()})
            for _ in range(times):
                yield f"{order.title} "

        @self.app.post("/wait")
        @tide.stream(on="worker", max_runs=1, on_end=lambda ending: self.ran.append(ending.outcome))
        async def wait() -> AsyncIterator[str]:
            """Until the gate opens; one at a time."""
            self.ran.append("began")
            await self.gate.wait()
            yield "through"

    def _add_others(self) -> None:
        tide = self.tide

        @self.app.get("/left")
        @tide.stream(on="worker", on_leave=cancel_after(0))
        async def left() -> AsyncIterator[str]:
            await asyncio.sleep(3600)
            yield ""

        @tide.on_worker(attempts=2, on_interrupt="restart")
        async def fail(code: str) -> AsyncIterator[str]:
            self.ran.append(code)
            raise NotFound if code == "not_found" else ConnectionError(code)
            yield ""

        @self.app.post("/fail")
        async def failing(code: str) -> Any:
            """Declared by itself."""
            return tide.response(partial(fail, code=code), on="worker", default="json")

        @self.app.post("/undeclared")
        async def undeclared() -> Any:
            return tide.response(lambda: ["x"], on="worker")


@pytest.fixture
def held() -> Iterator[tuple[App, Server]]:
    """Nothing is delivered until the test says so."""
    made = App(holds=True, queue=4)
    with serve(made.app) as server:
        yield made, server


def eventually(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "never"
        time.sleep(0.01)


def started(server: Server, path: str, **more: Any) -> str:
    headers = {"Prefer": "respond-async", **more.pop("headers", {})}
    answer = server.client.post(path, headers=headers, **more)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run"])


def state(server: Server, run: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get(f"/runs/{run}").json()
    return found


def ended(server: Server, run: str) -> dict[str, Any]:
    eventually(lambda: state(server, run)["outcome"])
    return state(server, run)


def events(server: Server, app: App, run: str) -> list[Any]:
    """Of a run that has ended, proven to be legal."""
    ended(server, run)
    return legal_events(server.call(lambda: records_of(app.tide.runner.store, run)))


class TestAsLocalRuns:
    def test_arguments_emit_history_and_current_run(self) -> None:
        app = App()
        with serve(app.app) as server:
            answer = server.client.post(
                "/say", json={"title": "hi"}, params={"times": 2},
                headers={"x-name": "ann", "Accept": "application/json"},
            )  # fmt: skip
            assert (answer.status_code, answer.json()["text"]) == (200, "hi hi ")
            assert answer.json()["data"][0]["data"] == {"history": [{"role": "user", "content": "hi"}]}
            assert app.ran == [("hi", "ann", 2, None, "", None)]

    def test_retry_and_continue(self) -> None:
        app = App()
        with serve(app.app) as server:
            first = started(server, "/say", json={"title": "hi"}, headers={"x-name": "ann"})
            ended(server, first)
            again = server.client.post(f"/runs/{first}/retry", headers={"x-name": "bob"}).json()["run"]
            assert ended(server, again)["of"] == first
            on = server.client.post(f"/runs/{first}/continue").json()["run"]
            found = events(server, app, on)
            snapshot = next(one for one in found if isinstance(one, e.TextSnapshot))
            assert snapshot.text == "hi "
            assert server.client.get(f"/runs/{on}/transcript").json()["text"] == "hi hi "
            assert [one[1:5] for one in app.ran] == [
                ("ann", 1, None, ""), ("bob", 1, "retry", ""), ("nobody", 1, "continue", "hi "),
            ]  # fmt: skip
            eventually(lambda: state(server, first)["successor"] == on)

    def test_idempotency(self, held: tuple[App, Server]) -> None:
        app, server = held
        found = {started(server, "/say", json={"title": "a"}, headers={"Idempotency-Key": "k"}) for _ in range(3)}
        assert len(found) == 1
        server.call(app.queue.deliver)
        [run] = found
        assert ended(server, run)["outcome"] == "completed"
        assert started(server, "/say", json={"title": "a"}, headers={"Idempotency-Key": "k"}) == run
        assert len(app.ran) == 1

    def test_principals(self) -> None:
        app = App(principal=who)
        with serve(app.app) as server:
            run = started(server, "/say", json={"title": "a"}, headers={"X-User": "ann"})
            eventually(lambda: app.ran)
            assert app.ran[0][-1] == "ann"
            assert server.client.get(f"/runs/{run}", headers={"X-User": "bob"}).status_code == 404
            assert server.client.get(f"/runs/{run}", headers={"X-User": "ann"}).status_code == 200

    def test_a_thread_takes_one_at_a_time(self, held: tuple[App, Server]) -> None:
        app, server = held
        run = started(server, "/say", json={"title": "a"}, headers={"Thread-Id": "t"})
        busy = server.client.post("/say", json={"title": "b"}, headers={"Thread-Id": "t"})
        assert (busy.status_code, busy.json()["code"], busy.json()["run"]) == (409, "thread_busy", run)
        server.call(app.queue.deliver)
        ended(server, run)
        assert started(server, "/say", json={"title": "b"}, headers={"Thread-Id": "t"}) != run

    def test_early_failures_have_their_status(self) -> None:
        app = App()
        with serve(app.app) as server:
            answer = server.client.post("/fail", params={"code": "not_found"})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert app.ran == ["not_found"]

    def test_a_span_in_the_worker(self) -> None:
        """One, begun where the run is taken; it is the parent of what the source does."""
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        app = App(tracer_provider=provider)
        with serve(app.app) as server:
            run = started(server, "/say", json={"title": "hi"})
            ended(server, run)
            tail = server.call(lambda: app.tide.runner.store.tail(run_log(run)))
            assert tail is not None
            [span] = [one for one in exporter.get_finished_spans() if one.name == "tidelog.run"]
            assert dict(span.attributes or {})["tidelog.run"] == run
            assert span.context is not None
            assert f"{span.context.span_id:016x}" in (heads.decode(tail.head).trace or "")

    def test_leaving_before_it_is_taken(self, held: tuple[App, Server]) -> None:
        """Whoever takes it finds that nobody watches any more."""
        app, server = held
        with server.watch("/left") as viewer:
            viewer.until("run.state")
        eventually(lambda: server.call(partial(_watched, app, viewer.run))[-1:] == [0])
        server.call(app.queue.deliver)
        assert ended(server, viewer.run)["outcome"] == "stopped"


async def _watched(app: App, run: str) -> list[int]:
    return [one.viewers for one in await controls(app.tide.runner.store, run) if isinstance(one, control.Watched)]


class TestTheQueue:
    def test_stop_before_it_is_taken(self, held: tuple[App, Server]) -> None:
        app, server = held
        run = started(server, "/wait")
        assert (state(server, run)["state"], state(server, run)["owner_age"]) == ("queued", None)
        assert server.client.post(f"/runs/{run}/stop").json() == {"result": "stopped"}
        server.call(app.queue.deliver)
        [begun, waits, over] = events(server, app, run)
        assert (begun.run, waits.state, over.outcome) == (run, "queued", "stopped")
        eventually(lambda: app.ran == ["stopped"])  # what was declared hears of it, as of any end

    def test_pause_before_it_is_taken(self, held: tuple[App, Server]) -> None:
        """It is taken paused, and its source is not opened before it is resumed."""
        app, server = held
        run = started(server, "/wait")
        server.call(lambda: app.tide.runner.store.post(f"control/{run}", b'{"kind":"pause"}'))
        server.call(app.queue.deliver)
        eventually(lambda: state(server, run)["state"] == "paused")
        assert app.ran == []
        assert server.client.post(f"/runs/{run}/resume").json() == {"result": "resumed"}
        eventually(lambda: app.ran == ["began"])
        server.call(app.gate.set)
        assert [one.state for one in events(server, app, run) if isinstance(one, e.RunState)] == [
            "queued", "paused", "running",
        ]  # fmt: skip

    def test_deleted_before_it_is_taken(self, held: tuple[App, Server]) -> None:
        app, server = held
        run = started(server, "/wait")
        assert server.client.delete(f"/runs/{run}").status_code == 204
        server.call(app.queue.deliver)
        server.call(app.queue.wait_all)
        assert "began" not in app.ran
        assert server.client.get(f"/runs/{run}").status_code == 404

    def test_how_many_may_wait(self, held: tuple[App, Server]) -> None:
        """`queue` of them; a place is free again once a worker has taken one, or it has ended."""
        app, server = held
        runs = [started(server, "/wait") for _ in range(4)]
        full = server.client.post("/wait", headers={"Prefer": "respond-async"})
        assert (full.status_code, full.json()["code"]) == (429, "too_many_runs")
        server.client.post(f"/runs/{runs.pop()}/stop")
        eventually(lambda: len(app.tide.runner.admission.handed_on) == 3)
        runs.append(started(server, "/wait"))
        server.call(app.gate.set)
        server.call(app.queue.deliver)
        assert [ended(server, run)["outcome"] for run in runs] == ["completed"] * 4
        eventually(lambda: len(app.tide.runner.admission.handed_on) == 0)

    def test_max_runs_holds_at_the_worker(self, held: tuple[App, Server]) -> None:
        """The second stays queued, nobody's, until there is a slot for it; so it can be stopped there as well."""
        app, server = held
        first, second, third = (started(server, "/wait") for _ in range(3))
        server.call(app.queue.deliver)
        eventually(lambda: app.ran == ["began"])
        eventually(lambda: app.tide.runner.admission.runs.waiting == 2)
        server.call(app.queue.deliver)
        server.call(partial(app.tide.work, third))  # it comes back at once, though the run has not begun
        assert app.tide.runner.admission.runs.waiting == 2, "a second job waits for nothing"
        assert state(server, second)["state"] == "queued"
        assert server.client.post(f"/runs/{second}/stop").json() == {"result": "stopped"}
        server.call(app.gate.set)
        assert [ended(server, run)["outcome"] for run in (first, third)] == ["completed"] * 2
        eventually(lambda: app.ran.count("completed") == 2)
        assert app.ran.count("began") == 2
        eventually(lambda: len(app.tide.runner.admission.runs) == 0)

    def test_a_queue_that_is_away(self) -> None:
        app = App()
        app.queue.away = True
        with serve(app.app) as server:
            answer = server.client.post("/wait", headers={"Idempotency-Key": "k", "Accept": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert server.client.get("/runs").json()["runs"] == []
            app.queue.away = False
            server.call(app.gate.set)
            answer = server.client.post("/wait", headers={"Idempotency-Key": "k", "Accept": "application/json"})
            assert answer.json()["outcome"] == "completed"

    def test_work_that_the_worker_does_not_know(self, held: tuple[App, Server]) -> None:
        app, server = held
        run = started(server, "/say", json={"title": "a"})
        app.tide.runner.elsewhere.functions._known.clear()
        server.call(app.queue.deliver)
        assert ended(server, run)["error"]["code"] == "internal"

    def test_a_job_whose_wait_is_cancelled(self, held: tuple[App, Server]) -> None:
        """As by a limit of time of the queue's own: the run ends with it."""
        app, server = held
        run = started(server, "/wait")

        async def cut() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await app.tide.work(run)

        server.call(cut)
        assert ended(server, run)["outcome"] == "interrupted"


async def die(app: App, run: str, *said: e.Event) -> None:
    """A worker takes the run, says this, and is found to be dead."""
    store = app.tide.runner.store
    assert isinstance(store, Parking)
    tail = await store.tail(run_log(run))
    assert tail is not None
    head = msgspec.structs.replace(heads.decode(tail.head), state="running")
    records = number(tail, tail.epoch + 1, (e.RunState(state="running"), *said))
    lease = await store.take(run_log(run), tail.last, records, head=heads.encode(head), ended=False)
    await store.park(run_log(run), records[-1].seq, lease=lease, due=inf)
    tail = await store.tail(run_log(run))
    assert tail is not None
    await app.tide.runner.elsewhere.again(tail, head)


class TestDeadWorkers:
    def test_it_is_begun_again_only_so_often(self, held: tuple[App, Server]) -> None:
        """Its work may be what kills them."""
        app, server = held
        run = started(server, "/fail", params={"code": "x"})
        for n in range(1, RESTARTS + 1):
            server.call(partial(die, app, run, e.Progress(task="work", done=1, total=2)))
            assert state(server, run)["state"] == "queued"
            assert len(app.queue.sent) == n + 1
        server.call(partial(die, app, run))
        assert ended(server, run)["outcome"] == "interrupted"
        told = [one.done for one in events(server, app, run) if isinstance(one, e.Progress) and one.task == "attempt"]
        assert told == [2, 3, 4]
        assert len(app.queue.sent) == RESTARTS + 1, "no new run either"

    def test_one_that_continued_another_is_continued(self, held: tuple[App, Server]) -> None:
        app, server = held
        first = started(server, "/say", json={"title": "hi"})
        server.call(app.queue.deliver)
        ended(server, first)
        run = server.client.post(f"/runs/{first}/continue").json()["run"]
        server.call(
            partial(die, app, run, e.TextSnapshot(part="p1", text="hi "), e.TextDelta(part="p1", text="there "))
        )
        assert ended(server, run)["outcome"] == "interrupted"
        eventually(lambda: state(server, run)["successor"])
        after = state(server, run)["successor"]
        server.call(app.queue.deliver)
        assert (ended(server, after)["of"], ended(server, after)["mode"]) == (run, "continue")
        assert server.client.get(f"/runs/{after}/transcript").json()["text"] == "hi there hi "
        assert app.ran[-1][4] == "hi there "

    def test_one_that_nobody_takes_is_sent_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its job was lost: with a worker that had fetched it, or it was never sent. It waits twice as long each time."""
        monkeypatch.setattr("tidelog.elsewhere.SEND_AGAIN", 0.1)
        app = App(holds=True, lease_patience=0.1)
        with serve(app.app) as server:
            begun, run = time.monotonic(), started(server, "/wait")
            eventually(lambda: len(app.queue.sent) > 3)
            assert time.monotonic() - begun > 0.3, "at 0.1, 0.2 and 0.4 s, not each 0.1 s"
            assert len(server.call(partial(app.tide.runner.store.parked, inf))) == 1  # type: ignore[attr-defined]
            server.call(app.queue.deliver)
            eventually(lambda: app.ran == ["began"])
            sent = len(app.queue.sent)
            server.call(app.gate.set)
            assert ended(server, run)["outcome"] == "completed"
            assert (app.ran, len(app.queue.sent)) == (["began", "completed"], sent)

    def test_a_queue_that_is_away_when_a_worker_died(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run is sent once it is back."""
        monkeypatch.setattr("tidelog.elsewhere.SEND_AGAIN", 0.1)
        app = App(holds=True, lease_patience=0.1)
        with serve(app.app) as server:
            run = started(server, "/say", json={"title": "a"})
            app.queue.away = True
            server.call(partial(die, app, run))
            assert state(server, run)["state"] == "queued"
            app.queue.sent.clear()
            app.queue.away = False
            eventually(lambda: app.queue.sent)
            server.call(app.queue.deliver)
            assert ended(server, run)["outcome"] == "completed"

    def test_a_worker_that_goes_passes_on_what_waits_for_it(self, held: tuple[App, Server]) -> None:
        """Jobs that have no slot yet, and such as come now."""
        app, server = held
        runs = [started(server, "/wait") for _ in range(3)]
        server.call(app.queue.deliver)
        eventually(lambda: app.tide.runner.admission.runs.waiting == 2)
        app.queue.is_worker_process = True
        server.call(app.tide.runner.drain)
        eventually(lambda: len(app.queue.sent) == 5)
        server.call(partial(app.tide.work, runs[-1]))
        assert len(app.queue.sent) == 6
        assert [state(server, run)["state"] for run in runs].count("queued") == 2
        app.queue.is_worker_process = False


class TestDeclaring:
    def test_without_a_queue(self) -> None:
        with pytest.raises(InvalidRequest, match=r"tidelog\[taskiq\]"):
            Tidelog("memory:").stream(on="worker")(App)
        with pytest.raises(InvalidRequest, match=r"worker= is object.*tidelog\[celery\]"):
            Tidelog("memory:", worker=object())

    def test_a_queue_belongs_to_one(self) -> None:
        for queue in (InMemoryBroker(), Celery("twice")):
            Tidelog("memory:", worker=queue)
            with pytest.raises(InvalidRequest, match="another Tidelog"):
                Tidelog("memory:", worker=queue)

    def test_what_does_not_travel(self) -> None:
        tide = Tidelog("memory:", worker=InMemoryBroker())

        def connected(link: asyncio.Event) -> None: ...
        def many(*values: int) -> None: ...

        with pytest.raises(TypeError, match="link cannot travel"):
            tide.on_worker()(connected)
        with pytest.raises(TypeError, match=r"\*values"):
            tide.on_worker()(many)

    def test_options_stand_where_a_worker_finds_them(self) -> None:
        app = App()
        with serve(app.app) as server:
            assert server.client.post("/undeclared", headers={"Accept": "application/json"}).status_code == 500

        async def both() -> None:
            with pytest.raises(InvalidRequest, match="was declared"):
                await app.tide.start(["x"], on="worker")

        asyncio.run(both())
        for wrong in ({"on": "elsewhere"}, {"on_interrupt": "restart"}, {"on": "worker", "lockstep": 10},
                      {"on": "worker", "worker_timeout": 0.0}):  # fmt: skip
            with pytest.raises(ValueError, match="="):
                app.tide.stream(**wrong)  # type: ignore[call-overload]

    def test_arguments_have_a_limit(self, held: tuple[App, Server]) -> None:
        _, server = held
        answer = server.client.post("/say", json={"title": "x" * WORK_BYTES}, headers={"Prefer": "respond-async"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("parks", [False, True], ids=["did nothing", "did it"])
def test_a_store_that_is_away_for_a_moment_when_a_run_is_handed_on(
    held: tuple[App, Server], monkeypatch: pytest.MonkeyPatch, parks: bool
) -> None:
    """It is tried again, whatever became of the first try: the key that was sent leads to this run."""
    made, server = held
    store = made.tide.runner.store
    assert isinstance(store, Parking)
    park, tries = store.park, 0

    async def away(log: str, after: int, *, lease: Lease, due: float) -> None:
        nonlocal tries
        tries += 1
        if tries > 1 or parks:
            await park(log, after, lease=lease, due=due)
        if tries == 1:
            raise Unavailable("away for a moment")

    monkeypatch.setattr(store, "park", away)
    viewer = server.watch("/say", "POST", json={"title": "on"})
    server.call(made.queue.deliver)
    viewer.rest()
    assert (tries, viewer.frames[-1].json["outcome"]) == (2, "completed")


def test_a_store_that_is_away_for_too_long_when_a_run_is_handed_on(
    held: tuple[App, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, server = held

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    monkeypatch.setattr(made.tide.runner.store, "park", away)
    refused = server.client.post("/say", json={"title": "on"})
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    eventually(lambda: [run["outcome"] for run in server.client.get("/runs").json()["runs"]] == ["failed"])
