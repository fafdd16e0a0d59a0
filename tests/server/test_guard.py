"""What does not start a run: HEAD, a prefetch, another site's page (spec §4)."""

from __future__ import annotations

import pytest
from starlette.middleware.cors import CORSMiddleware
from tests.server.chat import Chat, make_tide

from tidelog.testing import Gate, serve

EVIL, FRIEND = "https://evil.example", "https://app.example"

REFUSED = [
    ({"Sec-Purpose": "prefetch"}, "prefetch"),
    ({"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
    ({"Purpose": "prefetch"}, "prefetch"),
    ({"Sec-Fetch-Site": "cross-site"}, "cross_site"),
    ({"Sec-Fetch-Site": "cross-site", "Origin": EVIL}, "cross_site"),
    ({"Origin": EVIL}, "cross_site"),
    ({"Origin": "null"}, "cross_site"),
]
ALLOWED = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": EVIL},
]


@pytest.mark.parametrize(("headers", "code"), REFUSED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_start_is_refused(method: str, headers: dict[str, str], code: str) -> None:
    chat = Chat("Hello")
    with serve(chat.app) as server, server.watch("/chat", method, headers=headers) as viewer:
        assert (viewer.status, viewer.json["code"]) == (403, code)
    assert chat.script.started == 0


@pytest.mark.parametrize("headers", ALLOWED)
def test_a_start_is_allowed(headers: dict[str, str]) -> None:
    with serve(Chat("Hello").app) as server, server.watch("/chat", headers=headers) as viewer:
        assert viewer.status == 200


def test_the_own_host_is_no_other_site() -> None:
    with serve(Chat("Hello").app) as server, server.watch("/chat", headers={"Origin": server.url}) as viewer:
        assert viewer.status == 200


@pytest.mark.parametrize(("origin", "status"), [(FRIEND, 200), (EVIL, 403)])
@pytest.mark.parametrize("how", ["cors", "cors by pattern", "origins"])
def test_origins_that_the_application_allows(how: str, origin: str, status: int) -> None:
    chat = Chat("Hello", tide=make_tide(origins=[FRIEND] if how == "origins" else ()))
    if how == "cors":
        chat.app.add_middleware(CORSMiddleware, allow_origins=[FRIEND])
    elif how == "cors by pattern":
        chat.app.add_middleware(CORSMiddleware, allow_origin_regex=r"https://app\..*")
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    with serve(chat.app) as server, server.watch("/chat", headers=headers) as viewer:
        assert viewer.status == status
        if status == 200 and how != "origins":
            assert viewer.headers["access-control-allow-origin"] == FRIEND
            assert "Run-Id" in viewer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("verb", ["stop", "pause", "resume", "retry", "continue"])
def test_verbs_are_refused_too(verb: str) -> None:
    gate = Gate()
    with serve(Chat("Hel", gate).app) as server, server.watch("/chat") as viewer:
        with server.watch(f"/runs/{viewer.run}/{verb}", "POST", headers={"Origin": EVIL}) as asked:
            assert (asked.status, asked.json["code"]) == (403, "cross_site")
        with server.watch(f"/runs/{viewer.run}", "DELETE", headers={"Sec-Fetch-Site": "cross-site"}) as asked:
            assert asked.status == 403
        assert server.client.get(f"/runs/{viewer.run}").json()["state"] == "running"


def test_head_starts_nothing() -> None:
    chat = Chat("Hello")
    with serve(chat.app) as server:
        answer = server.client.head("/chat")
    assert answer.status_code == 200
    assert answer.headers["vary"] == "Accept"
    assert chat.script.started == 0
