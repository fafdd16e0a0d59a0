"""With keys the built-in applications are for those who have one: by header, or by the cookie that the page is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tidelog.apps.main import make_app
from tidelog.apps.sign_in import COOKIE
from tidelog.auth import api_keys, new_key
from tidelog.testing import Server, serve

CORPUS = Path(__file__).parent / "documents" / "corpus"
ANN, BOB = new_key(), new_key()
OPEN = {
    "/",
    "/page/{name}",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
}
"""What anybody may ask for: the page itself, and what tells nothing of anybody."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    app = make_app("memory:", str(CORPUS), principal=api_keys({"ann": ANN, "bob": BOB}, cookie=COOKIE))
    with serve(app) as server:
        yield server


def test_nobody_gets_anything_but_the_page(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    assert {"/documents", "/documents/{name}", "/rag", "/chat", "/agent", "/about", "/runs", "/sign-in"} <= set(paths)
    for path, methods in paths.items():
        for method in methods:
            if path not in OPEN and path != "/sign-out":
                asked = server.client.request(
                    method, path.format(name="x", run="x", thread="x"), params={"question": "What?"},
                    **({"json": {"question": "What?", "task": "What?"}} if method == "post" else {}),
                )  # fmt: skip
                assert asked.status_code == 401, (method, path)
    assert server.client.get("/").status_code == 200
    assert server.client.get("/page/page.js").status_code == 200


def test_an_upload_of_nobodys_is_not_read(server: Server) -> None:
    assert server.client.post("/documents", files={"files": ("a.txt", b"x")}).status_code == 401
    assert server.client.get("/documents", headers={"X-API-Key": ANN}).json()["documents"] == []


def test_a_key_becomes_a_cookie_and_back(server: Server) -> None:
    client = server.client
    assert client.post("/sign-in", headers={"Authorization": f"Bearer {new_key()}"}).status_code == 401
    signed = client.post("/sign-in", headers={"Authorization": f"Bearer {ANN}"})
    assert signed.status_code == 204
    assert "HttpOnly; Max-Age" in signed.headers["set-cookie"]
    assert "SameSite=strict" in signed.headers["set-cookie"]
    try:
        run = client.get("/rag", params={"question": "What opens?"}, headers={"Accept": "application/json"})
        assert run.status_code == 200
        path = f"/runs/{run.json()['run']}"
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"Authorization": f"Bearer {BOB}"}).status_code == 404
        away = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
        assert client.post(f"{path}/retry", headers=away).status_code == 403
        assert client.post("/sign-out").status_code == 204
        assert client.get(path).status_code == 401
    finally:
        client.cookies.clear()


def test_without_keys_there_is_nothing_to_sign() -> None:
    with serve(make_app("memory:", str(CORPUS))) as server:
        assert server.client.post("/sign-in").status_code == 404
        assert server.client.get("/documents").status_code == 200
