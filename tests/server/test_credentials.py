"""Nothing of a credential is kept or told: in no log, no head, no stored request, no metric and no problem document."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from fastapi import FastAPI, Request, Response
from tests.server.chat import make_tide

from tidelog.auth import api_keys, cookie, first_of, jwt, new_key
from tidelog.testing import Gate, Script, serve

SECRET = "a secret of at least thirty-two bytes"
CLIENTS = ("httpx2", "httpcore2")
"""Loggers of the test's own client."""


def test_it_is_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, wrong = new_key(), new_key()
    token = pyjwt.encode({"sub": "bob", "exp": time.time() + 600}, SECRET, "HS256")
    stale = pyjwt.encode({"sub": "bob", "exp": 1}, SECRET, "HS256")
    signed, keys = cookie(SECRET), {"ann": key}
    principal = first_of(api_keys(keys), jwt(SECRET, algorithms=["HS256"]), signed)
    tide, gate = make_tide(f"sqlite:///{tmp_path}/t.db", principal=principal), Gate()
    app, shown = FastAPI(), []
    app.include_router(tide.router)

    @app.api_route("/chat", methods=["GET", "POST"])
    async def chat(request: Request) -> Response:
        await request.body()
        return tide.response(Script("Hel", gate), request=request, concurrent=True)

    @app.post("/sign-in")
    async def sign_in(request: Request, response: Response) -> None:
        signed.put(response, "cas", request=request)

    with caplog.at_level(logging.DEBUG), serve(app) as server:
        worn = server.client.post("/sign-in").headers["set-cookie"].partition(";")[0]
        server.client.cookies.clear()
        good = [
            {"Authorization": f"Bearer {key}"},
            {"X-API-Key": key},
            {"Authorization": f"Bearer {token}"},
            {"Cookie": worn},
        ]
        bad: list[dict[str, str]] = [
            {"X-API-Key": wrong}, {"Authorization": f"Bearer {stale}"}, {"Authorization": f"Bearer {token}x"},
            {"Cookie": worn + "0"},
        ]  # fmt: skip
        tickets = []

        def ask(method: str, path: str, headers: dict[str, str], **more: Any) -> Any:
            answer = server.client.request(method, path, headers=headers, **more)
            shown.append(f"{answer.headers} {answer.text}")
            return answer

        for headers in good:
            viewer = server.watch("/chat", json={"q": 1}, headers=headers)
            assert viewer.status == 200
            for run in (viewer.run, "nosuch"):
                ask("GET", f"/runs/{run}", headers)
                ask("POST", f"/runs/{run}/stop", headers)
                ask("POST", f"/runs/{run}/retry", headers)
            ask("GET", "/threads/nosuch", headers)
            ask("GET", "/runs", headers)
            made = server.client.post("/tickets", headers=headers).json()["ticket"]
            tickets.append(made)
            assert server.watch(f"/chat?a=1&ticket={made}").status == 200
            ask("GET", f"/chat?ticket={made}", {})
            ask("GET", f"/runs/nosuch/events?ticket={made}", {})
        for headers in bad:
            assert ask("GET", "/chat", headers).status_code == 401
            assert ask("POST", "/tickets", headers).status_code == 401
        shown.append(server.client.get("/metrics").text)
        gate.open()
    logged = "".join(str(vars(one)) for one in caplog.records if not one.name.startswith(CLIENTS))
    assert "run.started" in logged
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (key, wrong, token, stale, worn.partition("=")[2], SECRET, *tickets):
        for part in (secret, secret.rpartition(".")[2]):  # a signature is enough to be one
            assert part.encode() not in kept
            assert part not in logged
            assert part not in "".join(shown)
