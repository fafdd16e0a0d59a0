"""Whatever stands between, everybody gets everything: over plain HTTP, by asking again."""

from __future__ import annotations

import json

import httpx2
import pytest
from tests.integration.proxies import proxy
from tests.server.chat import NDJSON, Chat
from tests.server.sockets import talk
from websockets.exceptions import InvalidStatus

from tidelog.testing import Gate, collect, rebuild, serve

WORDS = ["Hel", "lo ", "wor", "ld"]
ASYNC = {"Prefer": "respond-async"}


def test_a_proxy_that_drops_upgrade() -> None:
    """The refusal says where the events are, and there they are, as they come."""
    gate = Gate()
    with serve(Chat("Hel", gate, "lo").app) as server, proxy(server.url, "drops upgrade") as url:
        run = httpx2.post(f"{url}/chat", headers=ASYNC).json()["run"]
        with pytest.raises(InvalidStatus) as refused, talk(url, run):
            pass
        assert refused.value.response.status_code == 426
        events = json.loads(refused.value.response.body or b"")["events"]
        gate.open()
        assert rebuild(collect(url + events)) == "Hello"


def test_a_proxy_that_buffers_bodies() -> None:
    """A long-poll is answered whole each time, so nothing waits in the proxy; and each word is there before the next is said."""
    gates = [Gate() for _ in WORDS]
    steps = [step for pair in zip(WORDS, gates, strict=True) for step in pair]
    with serve(Chat(*steps).app) as server, proxy(server.url, "buffers") as url:
        started = httpx2.post(f"{url}/chat", headers=ASYNC)
        events, after, state, lines = started.json()["events"], "0", "running", list[str]()
        said = 0
        while state != "ended":
            answer = httpx2.get(f"{url}{events}?after={after}&wait=10", headers={"Accept": NDJSON}, timeout=30)
            assert answer.status_code == 200
            after, state = answer.headers["last-seq"], answer.headers["run-state"]
            lines += answer.text.splitlines()
            while said < len(WORDS) and rebuild(map(json.loads, lines)) == "".join(WORDS[: said + 1]):
                gates[said].open()
                said += 1
        assert said == len(WORDS)
        events = [json.loads(line) for line in lines]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert (rebuild(events), events[-1]["outcome"]) == ("Hello world", "completed")


def test_verbs_through_a_proxy_that_buffers() -> None:
    """Start, state, stop and result are requests of their own: the task style of plain HTTP."""
    with serve(Chat("Hel", Gate()).app) as server, proxy(server.url, "buffers") as url:
        started = httpx2.post(f"{url}/chat", headers=ASYNC)
        place = url + started.headers["location"]
        assert started.status_code == 202
        assert httpx2.get(place).json()["state"] == "running"
        assert httpx2.post(f"{place}/stop").json() == {"result": "stopped"}
        assert httpx2.post(f"{place}/stop").json() == {"result": "already_ended"}
        found = httpx2.get(f"{place}/transcript").json()
        assert (found["outcome"], found["text"]) in (("stopped", "Hel"), ("stopped", ""))
