"""Tickets: for what can send no header. One use, one minute, one purpose, in whatever process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from tests.server.chat import Chat, make_tide, types, who

from tidelog import registry
from tidelog.auth import Principal
from tidelog.errors import Refused
from tidelog.seams import Listing
from tidelog.server import tickets
from tidelog.server.tickets import Tickets
from tidelog.stores.memory import MemoryStore
from tidelog.testing import Gate, Server, serve

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


def ticket(server: Server, run: str | None = None, headers: dict[str, str] = ANN) -> str:
    body = {"json": {"run": run}} if run is not None else {}
    answer = server.client.post("/tickets", headers=headers, **body)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert 50 < found["expires"] - time.time() <= tickets.LIFETIME
    return str(found["ticket"])


class TestOfARun:
    def test_it_reads_once(self) -> None:
        chat = Chat("Hel", Gate(), tide=make_tide(principal=who))
        with serve(chat.app) as server:
            run = server.watch("/chat", headers=ANN).run
            one = ticket(server, run)
            path = f"/runs/{run}/events?ticket={one}"
            with server.watch(path) as viewer:
                assert types(viewer.read(2)) == ["run.started", "text.delta"]
            for headers in ({}, {"Last-Event-ID": f"{run}.1.1"}):
                again = server.watch(path, headers=headers)
                assert (again.status, again.json["code"]) == (401, "unauthorized"), "spent for a reconnect as well"
            with server.watch(path, headers=ANN) as viewer:
                assert viewer.status == 200, "who needs no ticket may have an old one in the address"

    def test_it_reads_that_run_and_does_nothing_else(self) -> None:
        chat = Chat("Hel", Gate(), tide=make_tide(principal=who), concurrent=True)
        with serve(chat.app) as server:
            run, other = (server.watch("/chat", headers={**ANN, "Thread-Id": "t"}).run for _ in range(2))
            for path in (f"/runs/{other}/events", "/runs", "/threads/t", "/chat", "/runs/nosuch"):
                refused = server.client.get(path, params={"ticket": ticket(server, run)})
                assert refused.status_code == (404 if path.endswith("nosuch") else 401), path
            for path in (f"/runs/{run}/stop", f"/runs/{run}/retry", "/tickets", "/chat"):
                refused = server.client.post(path, params={"ticket": ticket(server, run)})
                assert refused.status_code == 401, path
            assert server.client.delete(f"/runs/{run}", params={"ticket": ticket(server, run)}).status_code == 401
            for path in (f"/runs/{run}", f"/runs/{run}/transcript"):
                params = {"ticket": ticket(server, run)} if path.endswith(run) else None
                assert server.client.get(path, params=params, headers={} if params else ANN).status_code == 200
        assert chat.script.started == 2

    def test_another_gets_none(self) -> None:
        chat = Chat("Hel", Gate(), tide=make_tide(principal=who))
        with serve(chat.app) as server:
            run = server.watch("/chat", headers=ANN).run
            asked = {"json": {"run": run}}
            assert server.client.post("/tickets", headers=BOB, **asked).status_code == 404
            assert server.client.post("/tickets", **asked).status_code == 401
            assert server.client.post("/tickets").status_code == 401
            away = {**ANN, "Sec-Fetch-Site": "cross-site"}
            assert server.client.post("/tickets", headers=away, **asked).status_code == 403
            assert server.client.post("/tickets", headers=ANN, content=b"[1]").status_code == 400
            assert server.client.post("/tickets", headers=ANN, content=b" " * 5000).status_code == 413


class TestOfAStart:
    def test_it_starts_and_a_new_one_goes_on(self) -> None:
        chat = Chat("Hel", Gate(), "lo", tide=make_tide(principal=who))
        with serve(chat.app) as server:
            with server.watch(f"/chat?ticket={ticket(server)}") as viewer:
                place = viewer.read(2)[1].id
                run = viewer.run
            assert server.watch(f"/chat?ticket={viewer.request.url.rpartition('=')[2]}").status == 401
            again = f"/chat?ticket={ticket(server)}&last_event_id={place}"
            with server.watch(again) as viewer:
                assert (viewer.status, viewer.run) == (200, run)
            assert server.client.get(f"/runs/{run}", headers=ANN).status_code == 200
            assert server.watch(f"/runs/{run}/events?ticket={ticket(server)}").status == 401, "it is for starts"
            assert server.watch(f"/chat?ticket={ticket(server, headers=BOB)}&last_event_id={place}").status == 404
        assert chat.script.started == 1

    def test_one_key_is_one_run_whatever_the_ticket(self) -> None:
        chat = Chat("Hi", tide=make_tide(principal=who))
        with serve(chat.app) as server:
            asked = [f"/chat?key=k&%74icket={ticket(server)}", f"/chat?ticket={ticket(server)}&key=k"]
            runs = {server.watch(path).run for path in asked}
            [run] = runs
            tail = server.call(lambda: chat.tide.runner.store.tail(f"run/{run}"))
        assert tail is not None
        assert b"icket" not in tail.head

    def test_neither_head_nor_prefetch_spends_it(self) -> None:
        chat = Chat("Hi", tide=make_tide(principal=who))
        with serve(chat.app) as server:
            path = f"/chat?ticket={ticket(server)}"
            assert server.client.head(path).status_code == 200
            assert server.client.get(path, headers={"Sec-Purpose": "prefetch"}).status_code == 403
            assert server.watch(path).status == 200
        assert chat.script.started == 1

    def test_an_endpoint_may_ask_first(self) -> None:
        """A dependency of the application's and our own answer are one request: the ticket is spent once."""
        chat = Chat("Hi", tide=make_tide(principal=who))

        @chat.app.get("/mine")
        async def mine(request: Request) -> Any:
            assert await chat.tide.principal_of(request) == "ann"
            return chat.tide.response(chat.script, request=request)

        with serve(chat.app) as server:
            assert server.watch(f"/mine?ticket={ticket(server)}").status == 200
            refused = server.client.get("/mine")
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def test_without_a_principal_none_is_needed() -> None:
    with serve(Chat("Hi").app) as server:
        assert server.client.post("/tickets").status_code == 404


def test_of_many_processes_one_redeems_it(tmp_path: Path) -> None:
    """Each with a store of its own on one file, as processes have."""
    chats = [Chat("Hi", tide=make_tide(f"sqlite:///{tmp_path}/t.db", principal=who)) for _ in range(3)]
    with serve(chats[0].app) as one, serve(chats[1].app) as two, serve(chats[2].app) as three:
        servers = (one, two, three)
        for _ in range(5):
            path = f"/chat?ticket={ticket(one)}"
            with ThreadPoolExecutor(12) as pool:
                asked = [pool.submit(servers[n % 3].watch, path) for n in range(12)]
                statuses = [one.result().status for one in asked]
            assert sorted(statuses) == [200] + [401] * 11
    assert sum(chat.script.started for chat in chats) == 5


@pytest.mark.anyio
class TestMarks:
    async def store(self) -> MemoryStore:
        store = MemoryStore()
        await store.start("me")
        return store

    async def test_its_time_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = Tickets(await self.store())
        issued = await made.issue(Principal("ann", 7.0), "r")
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + tickets.LIFETIME + 1)
        assert await made.redeem(issued.ticket) is None

    async def test_what_it_says(self) -> None:
        made = Tickets(await self.store())
        issued = await made.issue(Principal("ann", 7.0), "r")
        found = await made.redeem(issued.ticket)
        assert found == tickets.Ticket("ann", issued.expires, 7.0, "r")
        for other in (issued.ticket, issued.ticket[:-1], "x" * 43, "", "/", "\udc80" * 43):
            assert await made.redeem(other) is None

    @pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/t.db"])
    async def test_old_marks_do_not_gather(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
        """Nor do those of a process that died."""
        store = registry.store(url.format(tmp_path))
        await store.start("me")
        dead, made = Tickets(store), Tickets(store)
        for _ in range(5):
            await dead.redeem((await dead.issue(Principal("ann"))).ticket)
        now = time.time()
        spent: list[str] = []
        for n in range(1, 20):
            monkeypatch.setattr(time, "time", lambda n=n: now + n * (tickets.LIFETIME + tickets.GRACE + 1))
            spent.append((await made.issue(Principal("ann"))).ticket)
            await made.redeem(spent[-1])
            assert isinstance(store, Listing)
            assert len(await store.list("ticket/", None, 100)) <= 2
        assert [await store.tail(f"spent/{tickets._mark(one)}") for one in spent[:-1]] == [None] * 18
        assert await store.tail(f"spent/{tickets._mark(spent[-1])}") is not None
        await store.aclose()

    async def test_there_is_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tickets, "MOST_TICKETS", 3)
        made = Tickets(await self.store())
        for _ in range(3):
            await made.issue(Principal("ann"))
        with pytest.raises(Refused) as refused:
            await made.issue(Principal("ann"))
        assert (refused.value.code, refused.value.retry_after) == ("overloaded", tickets.LIFETIME)
