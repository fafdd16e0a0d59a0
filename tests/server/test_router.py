"""The router of our routes: what is not ours is told at once, and what is ours is found wherever the router stands."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Match
from tests.server.chat import make_tide

from tidelog.server.router import Router
from tidelog.testing import serve


@pytest.mark.parametrize("prefix", ["", "/api", "/api/{version}"])
def test_our_routes_are_found_under_any_prefix(prefix: str) -> None:
    tide, app, outer = make_tide(), FastAPI(), APIRouter()
    outer.include_router(tide.router)
    app.include_router(outer, prefix=prefix)

    @app.get("/runs-of-mine")
    async def mine() -> str:
        return "mine"

    with serve(app) as server:
        place = prefix.replace("{version}", "v1")
        assert server.client.get(f"{place}/runs").json() == {"runs": []}
        assert server.client.get(f"{place}/healthz").status_code == 200
        assert server.client.get(f"{place}/runs/unknown/events").status_code == 404
        assert server.client.post(f"{place}/healthz").status_code == 405
        assert server.client.get("/runs-of-mine").json() == "mine"


def test_a_path_of_the_applications_own_is_no_match() -> None:
    router = make_tide().router
    for path in ("/", "/chat", "/runs-of-mine", "/my/runsheet", ""):
        assert router.matches({"type": "http", "path": path, "method": "GET"})[0] is Match.NONE
        assert router._ours.search(path) is None


@pytest.mark.parametrize("path", ["/{name}", "/{name}/more", "/"])
def test_a_route_that_may_begin_with_anything_makes_all_of_them_worth_a_look(path: str) -> None:
    router = Router()
    router.add_api_route("/runs", lambda: "runs")
    app = FastAPI()
    app.include_router(router)
    router.add_api_route(path, lambda: "any")
    with serve(app) as server:
        assert server.client.get("/runs").json() == "runs"
        assert server.client.get(path.replace("{name}", "other")).json() == "any"


def test_a_route_that_is_added_later_is_found() -> None:
    tide, app = make_tide(), FastAPI()
    app.include_router(tide.router)
    assert tide.router.matches({"type": "http", "path": "/later", "method": "GET"})[0] is Match.NONE
    tide.router.add_api_route("/later", lambda: "later")
    with serve(app) as server:
        assert server.client.get("/later").json() == "later"
