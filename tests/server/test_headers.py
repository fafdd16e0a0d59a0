"""What stands in the headers of an answer, and that links lead where they say (spec §4, §5)."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response
from tests.server.chat import JSON, NDJSON, Chat, make_tide

from tidelog import Tidelog
from tidelog.testing import Script, Server, rebuild, serve

EXPOSED = {"location", "run-id", "thread-id"}
STARTS: list[dict[str, Any]] = [
    {}, {"accept": NDJSON}, {"accept": JSON}, {"accept": "text/plain"}, {"headers": {"Prefer": "respond-async"}},
    {"params": {"dialect": "simple"}},
]  # fmt: skip


@pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
@pytest.mark.parametrize("request_", STARTS, ids=str)
def test_every_start_says_the_same(request_: dict[str, Any], bare: bool) -> None:
    with serve(Chat("Hello").app, bare=bare) as server, server.watch("/chat", **request_) as viewer:
        headers = viewer.headers
        viewer.rest()
    assert headers["vary"] == "Accept"
    assert headers["location"] == f"/runs/{headers['run-id']}"
    assert headers["thread-id"]
    assert {"private", "no-store", "no-transform"} <= set(headers["cache-control"].split(", "))
    assert {name.strip().lower() for name in headers["access-control-expose-headers"].split(",")} >= EXPOSED
    assert "connection" not in headers
    assert len({name.lower() for name, _ in viewer.raw_headers}) == len(viewer.raw_headers)


def test_a_stream_forbids_buffering() -> None:
    with serve(Chat("Hello").app) as server, server.watch("/chat") as viewer:
        assert viewer.headers["cache-control"] == "private, no-cache, no-store, no-transform"
        assert viewer.headers["x-accel-buffering"] == "no"
        assert "content-length" not in viewer.headers


def follow(server: Server, location: str) -> str:
    return rebuild(server.watch(f"{location}/events").rest())


def test_a_prefix_counts() -> None:
    with serve(Chat("Hello", prefix="/tide/v1").app) as server, server.watch("/chat") as viewer:
        assert viewer.headers["location"] == f"/tide/v1/runs/{viewer.run}"
        assert follow(server, viewer.headers["location"]) == "Hello"


def test_root_path_counts() -> None:
    """A proxy strips it from the path, and the browser needs it."""
    with serve(Chat("Hello", prefix="/v1").app, root_path="/behind") as server:
        with server.watch("/chat") as viewer:
            assert viewer.headers["location"] == f"/behind/v1/runs/{viewer.run}"
        assert follow(server, f"/v1/runs/{viewer.run}") == "Hello"
        with server.watch("/chat", headers={"Prefer": "respond-async"}) as viewer:
            assert viewer.json["events"] == f"/behind/v1/runs/{viewer.run}/events"


def nested(tide: Tidelog) -> FastAPI:
    """A whole tidelog application under `/sub` of another."""
    chat, outer = Chat("Hello", tide=tide, prefix="/v1"), FastAPI()
    outer.mount("/sub", chat.app)
    return outer


def test_a_mounted_application_counts() -> None:
    """Its lifespan never runs: the first request starts what is needed."""
    with serve(nested(make_tide())) as server, server.watch("/sub/chat") as viewer:
        assert viewer.headers["location"] == f"/sub/v1/runs/{viewer.run}"
        assert follow(server, viewer.headers["location"]) == "Hello"


def test_a_mounted_application_behind_root_path() -> None:
    with serve(nested(make_tide()), root_path="/behind") as server, server.watch("/sub/chat") as viewer:
        assert viewer.headers["location"] == f"/behind/sub/v1/runs/{viewer.run}"
        assert follow(server, f"/sub/v1/runs/{viewer.run}") == "Hello"


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_an_endpoint_in_a_sub_application_of_the_routers(prefix: str) -> None:
    """The router is the outer application's, the endpoint a mounted one's."""
    tide, script = make_tide(), Script("Hello")
    outer, inner = FastAPI(), FastAPI()
    outer.include_router(tide.router, prefix=prefix)
    outer.mount("/sub", inner)

    @inner.get("/chat")
    async def chat() -> Response:
        return tide.response(script)

    with serve(outer) as server, server.watch("/sub/chat") as viewer:
        assert viewer.headers["location"] == f"{prefix}/runs/{viewer.run}"
        assert follow(server, viewer.headers["location"]) == "Hello"


def test_routers_in_routers() -> None:
    tide, script = make_tide(), Script("Hello")
    app, outer, inner = FastAPI(), APIRouter(prefix="/a"), APIRouter(prefix="/b")
    inner.include_router(tide.router, prefix="/c")

    @inner.get("/chat")
    async def chat(request: Request) -> Response:
        return tide.response(script, request=request)

    outer.include_router(inner)
    app.include_router(outer)
    with serve(app) as server, server.watch("/a/b/chat") as viewer:
        assert viewer.headers["location"] == f"/a/b/c/runs/{viewer.run}"
        assert follow(server, viewer.headers["location"]) == "Hello"


def test_two_tidelogs_in_one_application_lead_to_their_own_runs() -> None:
    app = FastAPI()
    for name in ("one", "two"):
        tide = make_tide()
        app.include_router(tide.router, prefix=f"/{name}")
        app.get(f"/{name}/chat")(_endpoint(tide, Script(name)))
    with serve(app) as server:
        for name in ("one", "two"):
            with server.watch(f"/{name}/chat") as viewer:
                assert viewer.headers["location"] == f"/{name}/runs/{viewer.run}"
                assert follow(server, viewer.headers["location"]) == name
        assert server.client.get("/openapi.json").status_code == 200, (
            "a name that is there twice is a warning, and an error here"
        )


def _endpoint(tide: Tidelog, script: Script) -> Any:
    async def chat() -> Response:
        return tide.response(script)

    return chat
