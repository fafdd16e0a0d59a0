"""A run belongs to whoever started it: for everybody else it does not exist, on every route there is.

The routes are those of an application, so that a new one is tested by being there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.routing import Route, WebSocketRoute
from tests.server.chat import Chat, make_tide, who

from tidelog.auth import Target, is_owner
from tidelog.server.checks import all_routes
from tidelog.testing import Gate, Server, serve

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
OPEN = {"/healthz", "/readyz", "/metrics"}
"""Routes that tell nothing of any run."""
NEEDED: dict[str, dict[str, Any]] = {"/tickets": {"json": {"run": "{run}"}}}
"""What a route needs to get as far as the run."""
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def routes() -> list[tuple[str, str]]:
    """Every route of runs and threads of an application; the method of a WebSocket is `WS`."""
    app = FastAPI(openapi_url=None)
    app.include_router(make_tide().router)
    found: set[tuple[str, str]] = set()
    for route in all_routes(app):
        if isinstance(route, Route):
            found |= {(method, route.path) for method in route.methods}
        elif isinstance(route, WebSocketRoute):
            found.add(("WS", route.path))
        else:
            assert type(route).__name__ in ("_IncludedRouter", "Mount"), f"what is {route}?"
    return sorted(one for one in found if one[1] not in OPEN)


def asked(server: Server, method: str, path: str, headers: dict[str, str], run: str, thread: str = "t") -> Any:
    """The answer to this request for a run or a thread."""
    more = {name: dict.fromkeys(value, run) for name, value in NEEDED.get(path, {}).items()}
    if method == "WS":
        method, headers = "GET", {**headers, **UPGRADE}
    return server.client.request(method, path.format(run=run, thread=thread), headers=headers, **more)


def test_there_are_routes() -> None:
    assert {("GET", "/runs/{run}"), ("POST", "/runs/{run}/stop"), ("DELETE", "/threads/{thread}")} <= set(routes())


@pytest.fixture(scope="module")
def anns() -> Iterator[tuple[Server, str, str]]:
    """A live run and an ended one of Ann's, both in the thread `t`."""
    yield from two_runs()


@pytest.fixture(scope="module")
def denied() -> Iterator[tuple[Server, str, str]]:
    """The same, and an `authorize` that allows nobody anything."""
    yield from two_runs(authorize=lambda principal, run, verb: False)


def two_runs(**options: Any) -> Iterator[tuple[Server, str, str]]:
    chat = Chat("Hel", Gate(), tide=make_tide(principal=who, **options), concurrent=True)
    with serve(chat.app) as server:
        live, ended = (server.watch("/chat", headers={**ANN, "Thread-Id": "t"}).run for _ in range(2))
        run = chat.tide.runner.live(ended)
        assert run is not None
        server.call(run.stop)
        server.call(run.wait)
        yield server, live, ended


@pytest.mark.parametrize(("method", "path"), routes())
def test_somebody_else_finds_nothing(anns: tuple[Server, str, str], method: str, path: str) -> None:
    server, *runs = anns
    for run in runs:
        found = asked(server, method, path, BOB, run)
        if path == "/runs":
            assert found.json()["runs"] == []
            continue
        assert found.status_code == 404
        if method == "PUT":
            continue  # an id that nobody has can be reserved: that this one cannot tells that it is somebody's
        unknown = asked(server, method, path, BOB, "nosuch", "nosuch")
        assert unknown.content == found.content, "the answer must not tell that the run is there"


@pytest.mark.parametrize(("method", "path"), routes())
def test_nobody_is_asked_who_they_are(anns: tuple[Server, str, str], method: str, path: str) -> None:
    server, *runs = anns
    for run in (*runs, "nosuch"):
        found = asked(server, method, path, {}, run)
        assert found.status_code == 401
        if method != "WS":  # a handshake that is refused may have no body
            assert (found.json()["code"], found.headers["www-authenticate"]) == ("unauthorized", "Bearer")


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_passes_the_hook(denied: tuple[Server, str, str], method: str, path: str) -> None:
    server, *runs = denied
    for run in runs:
        assert asked(server, method, path, ANN, run).status_code == 403, "what is one's own is no secret"
        found = asked(server, method, path, BOB, run)
        assert found.status_code == (404 if "{run}" in path or path in NEEDED else 403), "Bob's own thread t is his"


def test_the_owner_finds_it_still(anns: tuple[Server, str, str]) -> None:
    server, live, ended = anns
    assert server.client.get(f"/runs/{live}", headers=ANN).json()["state"] == "running"
    assert server.client.get(f"/runs/{ended}", headers=ANN).json()["state"] == "ended"
    assert len(server.client.get("/threads/t", headers=ANN).json()["runs"]) == 2
    assert {run["run"] for run in server.client.get("/runs", headers=ANN).json()["runs"]} == {live, ended}
    assert server.client.get("/runs", headers=BOB).json()["runs"] == []


def test_the_same_thread_id_is_another_thread(anns: tuple[Server, str, str]) -> None:
    server, *_ = anns
    with server.watch("/chat", headers={**BOB, "Thread-Id": "t"}) as viewer:
        mine = server.client.get("/threads/t", headers=BOB).json()
    assert [run["run"] for run in mine["runs"]] == [viewer.run]
    server.client.delete("/threads/t", headers=BOB)


class TestAuthorize:
    def test_others_may_what_it_allows(self) -> None:
        heard: list[tuple[str | None, Target, str]] = []

        async def authorize(principal: str | None, run: Target, verb: str) -> bool:
            heard.append((principal, run, verb))
            return is_owner(principal, run, verb) or (principal == "support" and verb in ("read", "list"))

        support = {"X-User": "support"}
        chat = Chat("Hel", Gate(), tide=make_tide(principal=who, authorize=authorize))
        with serve(chat.app) as server:
            viewer = server.watch("/chat", headers={**ANN, "Thread-Id": "t"})
            place = viewer.read(2)[1].id
            with server.watch(f"/runs/{viewer.run}/events", headers=support) as watching:
                assert watching.status == 200
            with server.watch("/chat", headers=support, last_event_id=place) as back:
                assert (back.status, back.run) == (200, viewer.run)
            for verb in ("stop", "retry", "continue"):
                assert server.client.post(f"/runs/{viewer.run}/{verb}", headers=support).status_code == 404
            assert server.client.delete(f"/runs/{viewer.run}", headers=support).status_code == 404
            seen = server.client.get("/threads/t", params={"principal": "ann"}, headers=support).json()
            assert [run["run"] for run in seen["runs"]] == [viewer.run]
            assert len(server.client.get("/runs", params={"principal": "ann"}, headers=support).json()["runs"]) == 1
            for path in ("/threads/t", "/runs"):
                assert server.client.get(path, params={"principal": "ann"}, headers=BOB).status_code == 404
        run = Target("ann", viewer.run, "t", "/chat")
        assert [one for one in heard if one[1].run is not None and one[0] == "support"] == [
            ("support", run, verb) for verb in ("read", "read", "stop", "retry", "continue", "delete")
        ]
        assert ("support", Target("ann", None, "t"), "read") in heard

    def test_what_it_raises_is_a_no_and_stays_untold(self, caplog: pytest.LogCaptureFixture) -> None:
        def authorize(principal: str | None, run: Target, verb: str) -> bool:
            raise LookupError("no team of s3cret")

        chat = Chat("Hi", tide=make_tide(principal=who, authorize=authorize))
        with caplog.at_level("DEBUG"), serve(chat.app) as server:
            run = server.watch("/chat", headers=ANN).run
            assert server.client.get(f"/runs/{run}", headers=BOB).status_code == 404
        assert f"authorize raised LookupError for read of run {run}" in caplog.text
        assert "s3cret" not in caplog.text

    def test_it_needs_a_principal(self) -> None:
        with pytest.raises(ValueError, match="needs principal="):
            make_tide(authorize=is_owner)


def test_a_start_of_nobodys_is_401_and_starts_nothing() -> None:
    chat = Chat("Hi", tide=make_tide(principal=who))
    with serve(chat.app) as server:
        for accept in ("text/event-stream", "application/json", "text/plain"):
            refused = server.watch("/chat", accept=accept)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.json["type"] == "urn:tidelog:unauthorized"
        assert server.watch("/chat", last_event_id="x.0.1").status == 401, "before a cursor is looked at"
    assert chat.script.started == 0


def test_an_export_of_nobodys_is_not_read() -> None:
    tide, opened = make_tide(principal=who), []
    app = FastAPI()
    app.include_router(tide.router)

    def rows() -> Iterator[str]:
        opened.append(1)
        yield "a,b\n"

    @app.get("/export")
    def export() -> Response:
        return tide.export(rows)

    with serve(app) as server:
        assert server.client.get("/export").status_code == 401
        assert opened == []
        assert server.client.get("/export", headers=ANN).text == "a,b\n"


def test_anonymous_lets_nobody_in_and_keeps_them_apart() -> None:
    chat = Chat("Hi", tide=make_tide(principal=who, anonymous=True))
    with serve(chat.app) as server:
        nobodys, anns = server.watch("/chat"), server.watch("/chat", headers=ANN)
        nobodys.rest()
        assert server.client.get(f"/runs/{nobodys.run}").status_code == 200
        assert server.client.get(f"/runs/{nobodys.run}", headers=ANN).status_code == 404
        assert server.client.get(f"/runs/{anns.run}").status_code == 404
        assert server.client.post("/tickets").status_code == 401


def test_a_principal_may_be_awaited_and_may_refuse() -> None:
    async def principal(request: Request) -> str | None:
        if "authorization" not in request.headers:
            raise HTTPException(401, "Who are you?", headers={"WWW-Authenticate": "Bearer"})
        return "ann"

    chat = Chat("Hi", tide=make_tide(principal=principal))
    with serve(chat.app) as server:
        refused = server.watch("/chat")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert server.client.get("/runs").status_code == 401
        viewer = server.watch("/chat", headers={"Authorization": "Bearer x"})
        assert viewer.status == 200
        assert server.client.get(f"/runs/{viewer.run}").status_code == 401
    assert chat.script.started == 1


def test_the_empty_name_is_nobody() -> None:
    """Else it would be a name under which everybody reads what belongs to nobody, from wherever they ask."""
    chat = Chat("x", tide=make_tide(principal=lambda request: request.headers.get("x-user"), anonymous=True))
    with serve(chat.app) as server:
        server.watch("/chat", headers={"X-User": "", "Thread-Id": "t"}).rest()
        [run] = server.client.get("/runs").json()["runs"]
        assert server.client.get(f"/runs/{run['run']}", headers={"X-User": ""}).status_code == 200
        far = {"X-User": "", "X-Forwarded-For": "192.0.2.1"}
        assert server.client.get("/runs", headers=far).status_code == 404
    closed = Chat("x", tide=make_tide(principal=lambda request: request.headers.get("x-user")))
    with serve(closed.app) as server:
        assert server.watch("/chat", headers={"X-User": ""}).status == 401
