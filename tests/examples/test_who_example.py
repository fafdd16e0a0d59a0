"""docs/who-may-see-what.md: keys, a cookie, a colleague who may read, and a bare EventSource that comes back with tickets."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Route, async_playwright, expect
from tests.browser.conftest import FLAGS

from tidelog.testing import Server, serve, serve_process

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 20.0
ANN, SUPPORT = ({"X-API-Key": f"{name}-in-an-example-only"} for name in ("ann", "support"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(shutil.copytree(EXAMPLES, tmp_path / "examples"))
    monkeypatch.syspath_prepend(str(tmp_path / "examples"))
    module = importlib.import_module("who")
    try:
        with serve(module.app) as server:
            yield server
    finally:
        del sys.modules["who"]


def test_keys_cookies_and_colleagues(server: Server) -> None:
    client = server.client
    assert client.get("/answer?question=why").status_code == 401
    run = server.watch("/answer?question=why", headers=ANN)
    run.rest()
    path = f"/runs/{run.run}"
    assert client.get(f"{path}/transcript", headers=SUPPORT).json()["text"] == "ann asked: why "
    assert client.delete(path, headers=SUPPORT).status_code == 404
    assert client.get(path).status_code == 401
    assert client.post("/sign-in", headers=ANN).status_code == 204
    assert client.get(path).json()["state"] == "ended"
    client.cookies.clear()


def test_a_ticket_and_a_cookie_over_processes(tmp_path: Path) -> None:
    """A ticket of one process is spent in another, once; a cookie holds in both."""
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    env = {"COOKIE_SECRET": "the same in every process, and 32 long"}
    with serve_process("who:app", cwd=folder, env=env) as one, serve_process("who:app", cwd=folder, env=env) as two:
        urls = (one.url, two.url)
        with httpx2.Client(trust_env=False, timeout=PATIENCE) as client:
            client.post(f"{one.url}/sign-in", headers=ANN)
            assert [client.get(f"{url}/runs").status_code for url in urls] == [200, 200]
            for _ in range(5):
                ticket = client.post(f"{one.url}/tickets").json()["ticket"]
                with ThreadPoolExecutor(8) as pool:
                    paths = [f"{urls[n % 2]}/answer?question=why&ticket={ticket}" for n in range(8)]
                    asked = list(pool.map(lambda path: httpx2.get(path, timeout=PATIENCE).status_code, paths))
                assert sorted(asked) == [200] + [401] * 7
            assert len(client.get(f"{two.url}/runs").json()["runs"]) == 5


@pytest.mark.anyio
@pytest.mark.browser
async def test_an_event_source_with_tickets(server: Server) -> None:
    """Its connection ends behind `run.started`; it comes back with a new ticket, and the text is whole, of one run."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is missing.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = await browser.new_page()
        asked: list[str] = []

        async def cut(route: Route) -> None:
            asked.append(route.request.url)
            if len(asked) > 1:
                await route.continue_()
                return
            with server.watch(asked[0].removeprefix(server.url)) as viewer:
                viewer.rest()
                first = bytes(viewer.body).partition(b"\n\n")[0]
                await route.fulfill(content_type="text/event-stream", body=first + b"\n\n")

        await page.route("**/answer?*", cut)
        await page.goto(f"{server.url}/#{ANN['X-API-Key']}")
        await expect(page.locator("#answer")).to_have_text("ann asked: What is a ticket? ", use_inner_text=True)
        assert len(asked) == 2
        assert "last_event_id" in asked[1]
        assert ANN["X-API-Key"] not in "".join(asked)
        await browser.close()
    [run] = server.client.get("/runs", headers=ANN).json()["runs"]
    assert run["route"] == "/answer"
