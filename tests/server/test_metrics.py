"""`GET /metrics`: what it counts, what it never says, and who may read it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import Response
from tests.server.chat import Chat, make_tide, who
from tests.test_cli import until

from tidelog import SourceError, Usage
from tidelog.server.links import Links
from tidelog.server.metrics import BEHIND, FAMILIES
from tidelog.server.tally import Buckets
from tidelog.server.templates import KNOWN, OTHER, Templates
from tidelog.testing import Gate, Script, Server, serve

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Series by name and labels; an empty label is none, as Prometheus sees it."""
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if value)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scrape:
    """What a server's `/metrics` says now."""

    def __init__(self, server: Server, path: str = "/metrics") -> None:
        answer = server.client.get(path)
        assert answer.status_code == 200, answer.text
        self.text = answer.text
        self.samples = parsed(answer.text)

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one series; one that is not there counts as 0."""
        return self.samples.get((f"tidelog_{name}", frozenset(labels.items())), 0.0)

    def labels(self, name: str) -> list[Mapping[str, str]]:
        return [dict(labels) for found, labels in self.samples if found == f"tidelog_{name}"]


def ended(server: Server, count: int) -> Scrape:
    """A scrape once so many runs have ended: the last frame is out before the runner has put its run away."""
    until(lambda: sum(Scrape(server).samples[key] for key in _endings(Scrape(server))) == count)
    return Scrape(server)


def _endings(scrape: Scrape) -> list[Any]:
    return [key for key in scrape.samples if key[0] == "tidelog_runs_ended_total"]


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
class TestCounts:
    @pytest.fixture
    def tide(self, store: str, tmp_path: Path) -> Any:
        return make_tide(store if store == "memory:" else f"sqlite:///{tmp_path}/t.db", principal=who, anonymous=True)

    def test_a_run_that_completes(self, tide: Any) -> None:
        with serve(Chat("Hel", "lo", Usage(input=7, output=2), tide=tide).app) as server:
            viewer = server.watch("/chat")
            viewer.rest()
            scrape = ended(server, 1)
            state = server.client.get(viewer.headers["location"]).json()
        assert scrape("runs_started_total", route="/chat") == 1
        assert scrape("runs_ended_total", route="/chat", outcome="completed") == 1
        assert scrape("run_seconds_count", route="/chat") == 1
        assert scrape("first_event_seconds_count", route="/chat") == 1
        assert 0 <= scrape("first_event_seconds_sum", route="/chat") <= scrape("run_seconds_sum", route="/chat") + 1
        assert scrape("largest_gap_seconds_count") == 1
        assert [scrape("store_seconds_count", call=call) for call in ("open", "append")] == [1, 1]
        assert scrape("events_total") == state["last_seq"]
        assert scrape("bytes_total") > len("Hello")
        assert [scrape("tokens_total", direction=one, source="provider") for one in ("input", "output")] == [7, 2]
        assert {scrape("runs", state=state) for state in ("started", "running", "ending")} == {0}

    def test_endings_by_outcome_and_code(self, tide: Any) -> None:
        """A failure before the first event has none; an ending is none."""
        script = Script(Gate())
        tide.limits = tide.limits._replace(gap_timeout=0.2)
        app, router = FastAPI(), APIRouter()
        app.include_router(tide.router)
        steps = {
            "early": (SourceError("Busy.", code="rate_limited"),),
            "late": ("text", SourceError("Odd.", code="my_own_code_4711")),
            "stall": ("text", Gate()),
            "bad": ("text", object()),
        }

        @router.get("/{name}")
        async def one(name: str) -> Response:
            return tide.response(Script(*steps[name]))

        @app.get("/stopped")
        async def stopped() -> Response:
            return tide.response(script, gap_timeout=60.0)

        app.include_router(router, prefix="/under")
        with serve(app) as server:
            for name in steps:
                server.watch(f"/under/{name}").rest()
            run = server.client.get("/stopped", headers={"Prefer": "respond-async"}).json()["run"]
            server.client.post(f"/runs/{run}/stop")
            scrape = ended(server, 5)
        codes = {"rate_limited": "failed", "other": "failed", "timed_out": "timed_out", "invalid_event": "failed"}
        for code, outcome in codes.items():
            assert scrape("runs_ended_total", route="/under/{name}", outcome=outcome, code=code) == 1, code
        assert scrape("runs_ended_total", route="/stopped", outcome="stopped") == 1
        assert scrape("run_seconds_count", route="/under/{name}") == 4
        assert scrape("first_event_seconds_count", route="/under/{name}") == 3
        assert scrape("first_event_seconds_count", route="/stopped") == 0
        assert scrape("largest_gap_seconds_bucket", le="0.1") < scrape("largest_gap_seconds_bucket", le="+Inf")

    def test_a_run_that_was_found_by_its_key_counts_once(self, tide: Any) -> None:
        with serve(Chat("Hi", tide=tide).app) as server:
            runs = {server.watch("/chat", params={"key": "k"}).run for _ in range(2)}
            scrape = ended(server, 1)
        assert len(runs) == 1
        assert scrape("runs_started_total", route="/chat") == 1

    def test_runs_that_no_request_started_have_no_route(self, tide: Any) -> None:
        async def one() -> None:
            await (await tide.start(Script("Hi"), principal="ann")).wait()

        app = FastAPI()
        app.include_router(tide.router)
        with serve(app) as server:
            server.call(one)
            scrape = ended(server, 1)
        assert scrape("runs_ended_total", outcome="completed") == 1


class TestNow:
    def test_states_and_silence(self) -> None:
        before, after = Gate(), Gate()
        with serve(Chat(before, "Hi", after).app) as server:
            server.client.get("/chat", headers={"Prefer": "respond-async"})
            before.reached()
            first = Scrape(server)
            before.open()
            after.reached()
            second = Scrape(server)
            until(lambda: Scrape(server)("longest_silence_seconds") > second("longest_silence_seconds") > 0)
            after.open()
            last = ended(server, 1)
        assert (first("runs", state="started"), first("first_event_seconds_count", route="/chat")) == (1, 0)
        assert (second("runs", state="running"), second("first_event_seconds_count", route="/chat")) == (1, 1)
        assert second("run_seconds_count", route="/chat") == 0
        assert 0 < first("longest_silence_seconds") < 3600, "since its start, while there is no event"
        assert last("longest_silence_seconds") == 0

    def test_an_announced_attempt_is_no_first_event(self) -> None:
        busy = SourceError("Busy.", code="overloaded", retry_after=30)
        with serve(Chat(busy, attempts=2, status_hold=0.01).app) as server:
            viewer = server.watch("/chat")
            assert viewer.read(2)[-1].json["type"] == "progress"
            live = Scrape(server)
            server.client.post(f"/runs/{viewer.run}/stop")
            last = ended(server, 1)
        assert (live("runs", state="started"), live("runs", state="running")) == (1, 0)
        assert 0 < live("longest_silence_seconds") < 3600
        assert [one("first_event_seconds_count", route="/chat") for one in (live, last)] == [0, 0]

    def test_the_earlier_text_of_one_that_goes_on_is_no_first_event(self, tmp_path: Path) -> None:
        gate, again = Gate(), Gate()
        chat = Chat("Hel", gate, tide=make_tide(f"sqlite:///{tmp_path}/t.db"))
        with serve(chat.app) as server:
            run = server.watch("/chat").run
            server.client.post(f"/runs/{run}/stop")
            ended(server, 1)
            chat.script.steps = (again, "lo")
            assert server.client.post(f"/runs/{run}/continue").status_code == 201
            again.reached()
            scrape = Scrape(server)
            assert (scrape("runs", state="started"), scrape("first_event_seconds_count", route="/chat")) == (1, 1)
            again.open()
            assert ended(server, 2)("first_event_seconds_count", route="/chat") == 2

    def test_counters_never_fall_when_a_run_ends(self) -> None:
        gate = Gate()
        with serve(Chat("Hel", "lo", gate).app) as server:
            server.client.get("/chat", headers={"Prefer": "respond-async"})
            gate.reached()
            live = Scrape(server)
            gate.open()
            last = ended(server, 1)
        assert 3 <= live("events_total") <= last("events_total")
        assert 0 < live("bytes_total") <= last("bytes_total")

    def test_viewers_and_how_far_they_are_behind(self) -> None:
        gate = Gate()
        pieces = [{"n": n, "text": "x" * 16_000} for n in range(2 * BEHIND)]
        with serve(Chat("Hi", gate, *pieces, Gate()).app) as server:
            viewer = server.watch("/chat", receive_buffer=4096)
            gate.reached()
            assert Scrape(server)("viewers") == 1
            assert Scrape(server)("viewers_behind") == 0
            gate.open()
            until(lambda: Scrape(server)("viewers_behind") == 1)
            assert Scrape(server)("viewer_lag_events") > BEHIND
            viewer.close()
            until(lambda: Scrape(server)("viewers") == 0)
            assert Scrape(server)("viewer_lag_events") == 0


class TestWhatItNeverSays:
    def test_no_id_no_principal_no_words(self) -> None:
        """Labels are few: however many users ask on however many paths, there is one route, and none of its words."""
        tide = make_tide(principal=who)
        app = FastAPI()
        app.include_router(tide.router)

        @app.get("/ask/{question}")
        async def ask(question: str, request: Request) -> Response:
            return tide.response(Script("canary-answer"), thread=f"canary-{question}")

        with serve(app) as server:
            runs = [
                server.watch(f"/ask/canary-question-{n}", headers={"X-User": f"canary-user-{n}"}).run for n in range(3)
            ]
            scrape = ended(server, 3)
        assert "canary" not in scrape.text
        assert not [run for run in runs if run in scrape.text]
        assert scrape.labels("runs_started_total") == [{"route": "/ask/{question}"}]

    def test_every_metric_is_in_the_docs(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
        assert not [family.name for family in FAMILIES if f"`{family.name}`" not in page]


class TestWhoMayRead:
    def test_this_machine_only(self) -> None:
        with serve(Chat("Hi").app) as server:
            asked = server.client.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
            assert (asked.status_code, asked.json()["code"]) == (404, "not_found")
            assert server.client.get("/metrics").status_code == 200

    def test_everybody_where_the_application_says_so(self) -> None:
        chat = Chat("Hi")
        chat.tide.metrics.public = True
        with serve(chat.app) as server:
            assert server.client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 200

    def test_without_the_extra_it_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with serve(Chat("Hi").app) as server:
            server.watch("/chat").rest()
            asked = server.client.get("/metrics")
        assert asked.status_code == 501
        assert "pip install 'tidelog[metrics]'" in asked.json()["detail"]


class TestForms:
    def test_openmetrics_for_who_asks_for_it(self) -> None:
        with serve(Chat("Hi").app) as server:
            server.watch("/chat").rest()
            ended(server, 1)
            asked = server.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert asked.headers["content-type"].startswith("application/openmetrics-text")
        assert {family.name for family in openmetrics(asked.text)} == {_base(family.name) for family in FAMILIES}

    def test_two_in_one_application_and_both_in_a_registry_of_its_own(self) -> None:
        first, second, third = make_tide(), make_tide(), Chat("Hi")
        app = FastAPI(lifespan=None)
        for tide, prefix in ((first, "/first"), (second, "/second")):
            app.include_router(tide.router, prefix=prefix)

        @app.get("/chat")
        async def chat() -> Response:
            return first.response(Script("Hi"))

        with serve(app) as server, serve(third.app) as other:
            server.watch("/chat").rest()
            until(lambda: Scrape(server, "/first/metrics")("runs_ended_total", route="/chat", outcome="completed") == 1)
            assert Scrape(server, "/second/metrics")("runs_started_total", route="/chat") == 0
            assert Scrape(other)("runs_started_total", route="/chat") == 0
        registry = CollectorRegistry()
        registry.register(first.metrics)
        assert parsed(generate_latest(registry).decode())[
            "tidelog_runs_started_total", frozenset({("route", "/chat")})
        ] == 1  # fmt: skip
        with pytest.raises(ValueError, match="tidelog_runs"):
            registry.register(second.metrics)

    @pytest.mark.parametrize(
        ("value", "bounds"), [(0.5, ["1.0", "2.0", "+Inf"]), (1.0, ["1.0", "2.0", "+Inf"]), (3.0, ["+Inf"])]
    )
    def test_a_bound_belongs_to_its_bucket(self, value: float, bounds: list[str]) -> None:
        buckets = Buckets((1.0, 2.0))
        buckets.add(value)
        assert [bound for bound, count in buckets.cumulative() if count] == bounds


def _base(name: str) -> str:
    return name.removesuffix("_total")


class TestTemplates:
    @pytest.fixture
    def templates(self) -> Templates:
        app, inner, router = FastAPI(), FastAPI(), APIRouter()
        for one, path in ((app, "/plain"), (app, "/of/{user}"), (inner, "/deep/{rest:path}"), (router, "/{name}/x")):
            one.get(path)(lambda: None)
        app.mount("/mounted/{tenant}", inner)
        app.include_router(router, prefix="/with")
        links = Links()
        links.app = app
        return Templates(links)

    @pytest.mark.parametrize(
        ("path", "template"),
        [
            (None, ""), ("/plain", "/plain"), ("/of/ann", "/of/{user}"), ("/with/a/x", "/with/{name}/x"),
            ("/mounted/t1/deep/a/b", "/mounted/{tenant}/deep/{rest}"), ("/nowhere/ann", OTHER), ("/mounted/t1/no", OTHER),
        ],
    )  # fmt: skip
    def test_of_a_path(self, templates: Templates, path: str | None, template: str) -> None:
        assert [templates.of(path) for _ in range(2)] == [template] * 2

    def test_few_paths_are_remembered(self, templates: Templates) -> None:
        assert {templates.of(f"/of/{n}") for n in range(2 * KNOWN)} == {"/of/{user}"}
        assert len(templates._known) <= KNOWN

    def test_without_an_application_there_is_none(self) -> None:
        assert Templates(Links()).of("/plain") == OTHER
