"""A run belongs to whoever started it: for everybody else it does not exist, on every route there is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import Request
from fastapi.routing import APIRoute
from tests.server.chat import Chat, make_tide, who

from tidelog.testing import Gate, Server, serve

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
OPEN = {"/healthz", "/readyz"}


def routes() -> list[tuple[str, str]]:
    """Every route of runs and threads: a new one is tested by being there."""
    found = [route for route in make_tide().router.routes if isinstance(route, APIRoute)]
    return sorted((method, route.path) for route in found for method in route.methods if route.path not in OPEN)


def test_there_are_routes() -> None:
    assert {("GET", "/runs/{run}"), ("POST", "/runs/{run}/stop"), ("DELETE", "/threads/{thread}")} <= set(routes())


@pytest.fixture(scope="module")
def anns() -> Iterator[tuple[Server, str, str]]:
    """A live run and an ended one of Ann's, both in the thread `t`."""
    chat = Chat("Hel", Gate(), tide=make_tide(principal=who), concurrent=True)
    with serve(chat.app) as server:
        live, ended = (server.watch("/chat", headers={**ANN, "Thread-Id": "t"}).run for _ in range(2))
        server.client.post(f"/runs/{ended}/stop", headers=ANN)
        yield server, live, ended


@pytest.mark.parametrize("headers", [BOB, {}], ids=["another", "nobody"])
@pytest.mark.parametrize(("method", "path"), routes())
def test_somebody_else_finds_nothing(
    anns: tuple[Server, str, str], method: str, path: str, headers: dict[str, str]
) -> None:
    server, *runs = anns
    for run in runs:
        asked = server.client.request(method, path.format(run=run, thread="t"), headers=headers)
        if path == "/runs":
            assert run not in asked.text or not headers
            continue
        assert asked.status_code == 404
        unknown = server.client.request(method, path.format(run="nosuch", thread="nosuch"), headers=headers)
        assert unknown.json() == asked.json(), "the answer must not tell that the run is there"


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


def test_a_principal_may_be_awaited_and_may_refuse() -> None:
    from fastapi import HTTPException

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


def test_no_credential_is_stored_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat("Hi", tide=make_tide(principal=lambda request: "ann"))
    secret = "s3cret-token"
    with caplog.at_level("DEBUG"), serve(chat.app) as server:
        viewer = server.watch("/chat", json={"q": 1}, headers={"Authorization": f"Bearer {secret}", "Cookie": secret})
        viewer.rest()
        tail = server.call(lambda: chat.tide.runner.store.tail(f"run/{viewer.run}"))
    assert tail is not None
    assert secret.encode() not in tail.head
    assert not re.search(secret, caplog.text)


def test_the_empty_name_is_nobody() -> None:
    """Else it would be a name under which everybody reads what belongs to nobody, from wherever they ask."""
    chat = Chat("x", tide=make_tide(principal=lambda request: request.headers.get("x-user")))
    with serve(chat.app) as server:
        server.watch("/chat", headers={"X-User": "", "Thread-Id": "t"}).rest()
        [run] = server.client.get("/runs").json()["runs"]
        assert server.client.get(f"/runs/{run['run']}", headers={"X-User": ""}).status_code == 200
        far = {"X-User": "", "X-Forwarded-For": "192.0.2.1"}
        assert server.client.get("/runs", headers=far).status_code == 404
