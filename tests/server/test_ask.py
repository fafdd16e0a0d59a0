"""Questions over HTTP: asked in a run, answered from anywhere, parked and taken up again (spec §8, §10)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from tests.parts import PATIENCE, legal_events, records_of
from tests.server.asking import App
from tests.server.chat import who
from tests.server.sockets import talk

from tidelog import asking, cancel_after, control
from tidelog import events as e
from tidelog.errors import InvalidRequest, Unavailable
from tidelog.log import control_log, run_log
from tidelog.testing import Server, Viewer, serve


def answer(server: Server, run: str, value: Any, question: str = "q1", **headers: str) -> tuple[int, Any]:
    """Answer; the status and what the server says."""
    body = {"question": question, "value": value}
    response = server.client.post(f"/runs/{run}/answer", json=body, headers=headers)
    return response.status_code, response.json()


def eventually(condition: Callable[[], bool]) -> None:
    """Ask until it is true."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "never"
        time.sleep(0.01)


def parked(server: Server, app: App, run: str) -> bool:
    """Whether nobody owns the run any more."""
    state = server.client.get(f"/runs/{run}").json()
    return state["state"] == "waiting" and state["owner_age"] is None and app.tide.runner.live(run) is None


def started(server: Server, path: str, **params: Any) -> str:
    """Start a run that nobody watches; its id."""
    response = server.client.post(path, params=params, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    return str(response.json()["run"])


def waits(server: Server, run: str) -> dict[str, Any]:
    """The state of a run once it waits for an answer."""
    eventually(lambda: bool(server.client.get(f"/runs/{run}").json()["questions"]))
    found: dict[str, Any] = server.client.get(f"/runs/{run}").json()
    return found


def events(server: Server, run: str, app: App) -> list[Any]:
    """The events of a run that has ended, proven to be legal."""
    eventually(lambda: server.client.get(f"/runs/{run}").json()["outcome"] is not None)
    return legal_events(server.call(lambda: records_of(app.tide.runner.store, run)))


def text(viewer: Viewer) -> str:
    """What a viewer has read."""
    return "".join(frame.json["text"] for frame in viewer.frames if frame.json["type"] == "text.delta")


# Live


def test_a_question_is_state() -> None:
    """It is in the log, in the state of the run and in the transcript; another device sees it, and answers."""
    app = App()
    with serve(app.app) as server, server.watch("/live", "POST") as viewer:
        asked = viewer.until("run.state")
        assert [frame.json["type"] for frame in asked[-2:]] == ["question.asked", "run.state"]
        state = server.client.get(f"/runs/{viewer.run}").json()
        assert state["state"] == "waiting"
        [open] = state["questions"]
        assert (open["question"], open["prompt"], open["options"]) == ("q1", "Send it?", ["yes", "no"])
        assert server.client.get("/runs").json()["runs"][0]["questions"] == [open]
        [told] = server.client.get(f"/runs/{viewer.run}/transcript").json()["questions"]
        assert told == open
        with server.watch(f"/runs/{viewer.run}/events") as late:
            assert late.until("question.asked")[-1].json["question"] == "q1"
        assert answer(server, viewer.run, "yes")[0] == 200
        viewer.rest()
        assert text(viewer) == "Shall I? You said yes."
        found = events(server, viewer.run, app)
        assert [type(one).__name__ for one in found[2:6]] == [
            "QuestionAsked",
            "RunState",
            "QuestionAnswered",
            "RunState",
        ]
        after = server.client.get(f"/runs/{viewer.run}").json()
        assert after["questions"] == [] and after["outcome"] == "completed"
        told = server.client.get(f"/runs/{viewer.run}/transcript").json()
        assert [part["type"] for part in told["message"]["parts"]] == ["text", "question", "text"]
        assert (told["message"]["parts"][1]["outcome"], told["message"]["parts"][1]["value"]) == ("answered", "yes")
        assert told["questions"] == []


def test_the_clocks_stand_still() -> None:
    """`/live` has a gap of 1 s and a total of 2 s; a person takes longer."""
    app = App()
    with serve(app.app) as server, server.watch("/live", "POST") as viewer:
        viewer.until("run.state")
        run = app.tide.runner.live(viewer.run)
        assert run is not None
        began = run.loop.time()
        eventually(lambda: run.loop.time() - began > 2.3)
        assert answer(server, viewer.run, "no")[0] == 200
        viewer.rest()
        assert viewer.frames[-1].json["outcome"] == "completed"


def test_what_is_no_answer() -> None:
    """Refused with a sentence, and nothing is lost: the question is still open."""
    app = App()
    with serve(app.app) as server:
        run = started(server, "/typed")
        waits(server, run)
        for wrong in ("send", {"action": "send", "copies": "many"}, {"copies": 1}, {"action": "burn"}, None):
            status, said = answer(server, run, wrong)
            assert (status, said["code"]) == (422, "invalid_answer"), wrong
            assert said["detail"].startswith("The answer")
        for body in (b"", b"[]", b'{"question": 1, "value": 2}', b'{"question": "q1"}', b"\xff", b'{"value":NaN}'):
            response = server.client.post(f"/runs/{run}/answer", content=body)
            assert response.status_code == 400, body
        assert answer(server, run, "x" * 70_000)[0] == 413
        assert answer(server, run, "yes", "q2")[0] == 404
        assert server.client.post("/runs/nobody/answer", json={"question": "q1", "value": 1}).status_code == 404
        assert len(server.client.get(f"/runs/{run}").json()["questions"]) == 1
        assert answer(server, run, {"action": "send", "copies": 3})[0] == 200
        events(server, run, app)
        assert server.client.get(f"/runs/{run}/transcript").json()["text"] == "Plan send 3"


def test_first_answer_wins() -> None:
    """50 at once: one is the answer, all others are told which."""
    app = App()
    with serve(app.app) as server, ThreadPoolExecutor(50) as pool:
        run = started(server, "/sync")
        waits(server, run)
        found = list(pool.map(lambda number: answer(server, run, f"n{number}"), range(50)))
        [won] = [said["value"] for status, said in found if status == 200]
        lost = [said for status, said in found if status == 409]
        assert len(lost) == 49
        assert {(said["code"], said["answer"]["value"]) for said in lost} == {("already_answered", won)}
        events(server, run, app)
        assert server.client.get(f"/runs/{run}/transcript").json()["text"].endswith(f"Hello {won}.")
        assert answer(server, run, won)[0] == 200, "the same answer again"
        assert answer(server, run, "other")[0] == 409


def test_answers_belong_to_principals() -> None:
    """Another's run is 404; the same value of another principal is another answer."""

    def who(request: Request) -> str | None:
        return request.headers.get("who")

    app = App(principal=who)
    with serve(app.app) as server:
        response = server.client.post("/parked", headers={"Prefer": "respond-async", "who": "ann"})
        run = response.json()["run"]
        assert answer(server, run, "yes", who="bob")[0] == 404
        eventually(lambda: parked_for(server, run, "ann"))
        assert answer(server, run, "yes", who="ann") == (
            200, {"result": "answered", "question": "q1", "value": "yes", "by": "ann"},
        )  # fmt: skip
        eventually(lambda: server.client.get(f"/runs/{run}", headers={"who": "ann"}).json()["outcome"] is not None)
        said = server.client.get(f"/runs/{run}/transcript", headers={"who": "ann"}).json()
        assert said["text"].endswith("Dear all: answered yes by ann.")


def parked_for(server: Server, run: str, who: str) -> bool:
    """Whether nobody owns this principal's run."""
    state = server.client.get(f"/runs/{run}", headers={"who": who}).json()
    return bool(state["questions"]) and state["owner_age"] is None


def test_a_default_that_does_not_fit() -> None:
    """The application's own mistake ends the run before anybody is asked."""
    app = App()
    with serve(app.app) as server, server.watch("/wrong", "POST") as viewer:
        assert (viewer.status, viewer.json["code"]) == (500, "internal")
        [run] = server.client.get("/runs").json()["runs"]
        assert run["questions"] == [] and run["last_seq"] == 2


def test_a_live_question_expires() -> None:
    """With a default the run goes on with it, without one it ends."""
    app = App()
    with serve(app.app) as server:
        with server.watch("/live", "POST", params={"expires": "0.05", "default": "no"}) as viewer:
            viewer.rest()
            assert text(viewer).endswith("You said no.")
            status, said = answer(server, viewer.run, "yes")
            assert (status, said["code"], said["answer"]["value"]) == (409, "question_expired", "no")
        with server.watch("/live", "POST", params={"expires": "0.05"}) as viewer:
            viewer.rest()
            last = viewer.frames[-1].json
            assert (last["outcome"], last["error"]["message"]) == ("timed_out", "Nobody answered the question in time.")
            assert answer(server, viewer.run, "yes")[1]["code"] == "question_expired"
            events(server, viewer.run, app)


def test_a_stop_ends_a_live_question() -> None:
    app = App()
    with serve(app.app) as server, server.watch("/live", "POST") as viewer:
        viewer.until("run.state")
        assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
        kinds = [frame.json["type"] for frame in viewer.rest()]
        assert kinds[-3:] == ["text.ended", "question.answered", "run.ended"]
        assert answer(server, viewer.run, "yes")[1]["code"] == "question_closed"
        events(server, viewer.run, app)


def test_a_stop_frees_a_thread_that_waits() -> None:
    app = App()
    with serve(app.app) as server:
        run = started(server, "/sync")
        waits(server, run)
        assert server.client.post(f"/runs/{run}/stop").json() == {"result": "stopped"}
        assert app.closed == ["sync"]
        events(server, run, app)


def test_an_expiry_outlasts_a_store_that_fails() -> None:
    """It is posted again until it is stored."""
    app = App()
    store, fails = app.tide.runner.store, [Unavailable(), Unavailable()]
    post = store.post

    async def failing(log: str, data: bytes) -> int:
        if b"expired" in data and fails:
            raise fails.pop()
        return await post(log, data)

    store.post = failing  # type: ignore[method-assign]
    with serve(app.app) as server, server.watch("/live", "POST", params={"expires": "0.02", "default": "no"}) as viewer:
        viewer.rest()
        assert text(viewer).endswith("You said no.") and not fails


def test_paused_while_it_waits() -> None:
    """Answered, but paused: it goes on when it is resumed."""
    app = App()
    with serve(app.app) as server, server.watch("/live", "POST") as viewer:
        viewer.until("run.state")
        assert server.client.post(f"/runs/{viewer.run}/pause").json() == {"result": "paused"}
        assert answer(server, viewer.run, "yes")[0] == 200
        assert server.client.get(f"/runs/{viewer.run}").json()["state"] == "paused"
        assert server.client.post(f"/runs/{viewer.run}/resume").status_code == 200
        viewer.rest()
        assert text(viewer).endswith("You said yes.")
        states = [frame.json["state"] for frame in viewer.frames if frame.json["type"] == "run.state"]
        assert states == ["waiting", "paused", "running"]
        events(server, viewer.run, app)


def test_paused_while_it_could_be_parked() -> None:
    """A run that is paused keeps its source; it is parked once it is resumed, if nobody has answered by then."""
    app = App()
    with serve(app.app) as server:
        run = started(server, "/parked", park_after=3600)
        waits(server, run)
        assert server.client.post(f"/runs/{run}/pause").json() == {"result": "paused"}
        live = app.tide.runner.live(run)
        assert live is not None
        live.questions._patience = 0.0  # the time has come while it was paused
        server.call(live.park)
        assert app.closed == []
        assert server.client.post(f"/runs/{run}/resume").json() == {"result": "resumed"}
        eventually(lambda: parked(server, app, run))
        assert answer(server, run, "yes")[0] == 200
        events(server, run, app)


# Parked


@pytest.fixture(params=["memory:", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every store that comes with tidelog."""
    return f"sqlite:///{tmp_path}/logs.db" if request.param == "sqlite" else "memory:"


def test_a_parked_run_holds_nothing(store: str) -> None:
    """No task, no thread, no lease; its viewers stay. The answer goes on in the same log, in the next epoch."""
    app = App(store)
    with serve(app.app) as server, server.watch("/parked", "POST") as viewer:
        viewer.until("run.state")
        eventually(lambda: parked(server, app, viewer.run))
        assert app.closed == ["parked"], "its finally block has run"
        assert len(app.tide.runner) == 0
        runner = app.tide.runner
        running = server.call(lambda: [repr(task.get_coro()) for task in asyncio.all_tasks(server.loop)])
        assert not [task for task in running if "Run." in task or "ask" in task or "_park" in task]
        tail: Any = server.call(lambda: runner.store.tail(run_log(viewer.run)))
        assert (tail.owner, tail.ended) == ("", False)
        assert app.ended == []
        assert answer(server, viewer.run, "yes")[0] == 200
        viewer.rest()
        assert text(viewer) == "Before. Dear all: answered yes by None."
        assert viewer.frames[-1].id == f"{viewer.run}.2.{viewer.frames[-1].json['seq']}"
        found = events(server, viewer.run, app)
        assert [type(one).__name__ for one in found].count("ToolEnded") == 1, "a tool call may stay open over it"
        eventually(lambda: app.ended == ["completed"])


def test_a_parked_thread_is_free() -> None:
    """A sync generator's thread has ended."""
    app = App()
    with serve(app.app) as server:
        run = started(server, "/sync")
        waits(server, run)
        found = app.tide.runner.live(run)
        assert found is not None
        server.call(found.park)
        eventually(lambda: parked(server, app, run))
        assert app.closed == ["sync"]
        assert answer(server, run, "Ann")[0] == 200
        events(server, run, app)
        told = server.client.get(f"/runs/{run}/transcript").json()["text"]
        assert told == "Your name? Later Ann {'sync': True}."


def test_question_after_question() -> None:
    """A function that goes on may ask again; each time the run is parked anew."""
    app = App()
    with serve(app.app) as server:
        run = started(server, "/twice")
        for number, word in enumerate(("one", "two", "three"), 1):
            eventually(lambda: parked(server, app, run))
            assert waits(server, run)["questions"][0]["question"] == f"q{number}"
            assert answer(server, run, word, f"q{number}")[0] == 200
        events(server, run, app)
        state = server.client.get(f"/runs/{run}").json()
        assert state["epoch"] == 4
        assert server.client.get(f"/runs/{run}/transcript").json()["text"] == "one two three"


def test_a_parked_question_expires(store: str) -> None:
    """The keeper looks, every quarter of the lease's patience."""
    app = App(store, lease_patience=0.2)
    with serve(app.app) as server:
        run = started(server, "/parked", expires=0.3, default="no")
        found = events(server, run, app)
        assert server.client.get(f"/runs/{run}/transcript").json()["text"].endswith("Dear all: expired no by None.")
        assert [type(one).__name__ for one in found].count("QuestionAnswered") == 1
        run = started(server, "/parked", expires=0.3)
        events(server, run, app)
        state = server.client.get(f"/runs/{run}").json()
        assert (state["outcome"], state["error"]["code"]) == ("timed_out", "timed_out")
        assert answer(server, run, "yes")[1]["code"] == "question_expired"
    assert app.ended == ["completed", "timed_out"]


def test_a_parked_run_is_stopped_by_whoever_hears_it(store: str) -> None:
    app = App(store)
    with serve(app.app) as server, server.watch("/parked", "POST") as viewer:
        viewer.until("run.state")
        eventually(lambda: parked(server, app, viewer.run))
        assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
        viewer.rest()
        assert viewer.frames[-1].json["outcome"] == "stopped"
        events(server, viewer.run, app)
        assert answer(server, viewer.run, "yes")[1]["code"] == "question_closed"
        assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "already_ended"}
    assert app.ended == ["stopped"]


def test_a_parked_run_that_was_paused_goes_on_when_it_is_resumed(store: str) -> None:
    """Nobody owns it who could obey; whoever goes on with it does, before anything is done."""
    app = App(store)
    with serve(app.app) as server:
        run = started(server, "/parked")
        eventually(lambda: parked(server, app, run))
        for verb in ("pause", "resume", "pause"):
            server.call(lambda verb=verb: getattr(asking, verb)(app.tide.runner.store, run, 0.05))  # type: ignore[misc]
        assert answer(server, run, "yes")[0] == 200
        state = server.client.get(f"/runs/{run}").json()
        assert (state["state"], state["questions"]) == ("paused", [])
        assert "Dear all" not in server.client.get(f"/runs/{run}/transcript").json()["text"]
        assert server.client.post(f"/runs/{run}/resume").json() == {"result": "resumed"}
        told = [one.state for one in events(server, run, app) if isinstance(one, e.RunState)]
        assert told == ["waiting", "paused", "running"]
        assert "Dear all" in server.client.get(f"/runs/{run}/transcript").json()["text"]


def test_who_ends_a_parked_run_tells_its_on_end(tmp_path: Path) -> None:
    """Once, in the process that ends it, whoever started it: stopped, expired, and gone on with."""
    url = f"sqlite:///{tmp_path}/logs.db?beat=0.05"
    one, two = App(url), App(url)
    expired = control.encode(control.Expired(question="q1"))
    with serve(one.app) as server, serve(two.app) as other:

        def ended(path: str, outcome: str) -> None:
            run = started(server, path)
            eventually(lambda: server.client.get(f"/runs/{run}").json()["owner_age"] is None)
            if outcome == "stopped":
                assert other.client.post(f"/runs/{run}/stop").json() == {"result": "stopped"}
            elif outcome == "timed_out":
                other.call(lambda: two.tide.runner.store.post(control_log(run), expired))
                other.call(lambda: two.tide.runner.wake(run))
            else:
                assert answer(other, run, "yes")[0] == 200
            events(other, run, two)

        for path, outcome in (
            ("/parked", "stopped"),
            ("/parked", "timed_out"),
            ("/parked", "completed"),
            ("/twice", "stopped"),
        ):
            ended(path, outcome)
    assert (one.ended, two.ended) == ([], ["stopped", "timed_out", "completed", "stopped"])


def test_a_parked_run_is_deleted() -> None:
    app = App()
    with serve(app.app) as server:
        run = started(server, "/parked")
        eventually(lambda: parked(server, app, run))
        assert server.client.delete(f"/runs/{run}").status_code == 204
        assert server.client.get(f"/runs/{run}").status_code == 404
        assert list(server.call(lambda: app.tide.runner.store.parked(inf))) == []  # type: ignore[attr-defined]


def test_retention_never_drops_what_waits(store: str) -> None:
    app = App(store, retention=0.0)
    with serve(app.app) as server:
        run = started(server, "/parked")
        eventually(lambda: parked(server, app, run))
        server.call(app.tide.runner._keeper.expire)
        assert len(waits(server, run)["questions"]) == 1


def test_a_race_of_answers_for_a_parked_run(store: str) -> None:
    """One goes on with it, once."""
    app = App(store)
    with serve(app.app) as server, ThreadPoolExecutor(16) as pool:
        run = started(server, "/parked")
        eventually(lambda: parked(server, app, run))
        values = ["yes", "no"] * 8
        found = list(pool.map(lambda value: answer(server, run, value), values))
        won = {said["value"] for status, said in found if status == 200}
        assert len(won) == 1
        assert {said["answer"]["value"] for status, said in found if status == 409} == won
        assert {status for status, _ in found} == {200, 409}
        names = [type(one).__name__ for one in events(server, run, app)]
        assert names.count("QuestionAnswered") == 1
        assert server.client.get(f"/runs/{run}").json()["epoch"] == 2


def test_who_is_not_declared_cannot_be_found() -> None:
    """The mistake is told at once, not after the restart."""
    app = App()

    async def local(state: Any, answer: Any) -> Any:
        yield ""

    with pytest.raises(InvalidRequest, match=r"@tide\.resumes"):
        app.tide.response(local(None, None), resume=local)


@pytest.mark.parametrize("wrong", [{"lockstep": 1}, {"on_leave": cancel_after(1)}, {"park_after": -1}], ids=str)
def test_options_that_make_no_sense(wrong: Any) -> None:
    app = App()
    with pytest.raises(ValueError, match=r"resume=|park_after="):
        app.tide.stream(app.first, resume=app.goes_on, **wrong)  # type: ignore[call-overload]


def test_who_gives_up_withdraws_the_question() -> None:
    """A time limit of the application's own around `ask`: the run goes on without an answer."""
    app = App()
    with serve(app.app) as server, server.watch("/impatient", "POST") as viewer:
        viewer.rest()
        assert text(viewer) == "Never mind. ab"
        found = events(server, viewer.run, app)
        outcomes = [one.outcome for one in found if isinstance(one, e.QuestionAnswered)]
        assert outcomes == ["withdrawn", "expired", "expired"]
        assert answer(server, viewer.run, "yes")[1]["code"] == "question_closed"


def test_a_parked_run_takes_no_slot() -> None:
    """One that waits elsewhere leaves its place to others; one that goes on counts, and is never made to wait."""
    app = App(max_runs=1, queue=0)
    with serve(app.app) as server:
        first = started(server, "/parked")
        eventually(lambda: parked(server, app, first))
        second = started(server, "/sync")
        waits(server, second)
        assert len(app.tide.runner.admission.runs) == 1
        assert answer(server, first, "yes")[0] == 200
        events(server, first, app)
        assert answer(server, second, "Ann")[0] == 200
        events(server, second, app)
        eventually(lambda: len(app.tide.runner.admission.runs) == 0)


def test_over_a_websocket() -> None:
    """What a viewer says on its own connection is what it says over HTTP: answered, refused, and told who was first."""
    app, ann = App(principal=who), {"x-user": "ann"}
    with serve(app.app) as server, server.watch("/parked", "POST", headers=ann) as start:
        with talk(server, start.run, headers=ann) as viewer:
            viewer.until(type="run.state", state="waiting")
            for wrong in ({}, {"question": "q1"}, {"question": 1, "value": "yes"}):
                viewer.say({"type": "answer", **wrong})
                assert viewer.until(type="error", to="answer")["code"] == "invalid_request"
            viewer.say({"type": "answer", "question": "q1", "value": "maybe"})
            assert viewer.until(type="error", to="answer")["code"] == "invalid_answer"
            viewer.say({"type": "answer", "question": "q1", "value": "yes", "ref": "y"})
            said = viewer.rest()
        reply = {"type": "reply", "to": "answer", "ref": "y", "result": "answered"}
        assert {**reply, "question": "q1", "value": "yes", "by": "ann"} in said
        assert [one["outcome"] for one in said if one["type"] == "run.ended"] == ["completed"]


def test_over_a_websocket_the_second_answer_hears_of_the_first() -> None:
    app, ann = App(principal=who), {"x-user": "ann"}
    with serve(app.app) as server, server.watch("/twice", "POST", headers=ann) as start:
        with talk(server, start.run, headers=ann) as viewer:
            viewer.until(type="question.asked", question="q1")
            viewer.say({"type": "answer", "question": "q1", "value": "one"})
            viewer.until(type="question.asked", question="q2")
            viewer.say({"type": "answer", "question": "q1", "value": "two"})
            found = viewer.until(type="error", to="answer")
        assert found["code"] == "already_answered"
        assert found["answer"] == {"question": "q1", "outcome": "answered", "value": "one", "by": "ann"}


def test_a_parked_run_is_stopped_over_a_websocket() -> None:
    """Nobody owns it who would obey: it ends at once."""
    app = App()
    with serve(app.app) as server, server.watch("/parked", "POST") as start:
        eventually(lambda: parked(server, app, start.run))
        with talk(server, start.run) as viewer:
            viewer.say({"type": "stop"})
            said = viewer.rest()
        assert {"type": "reply", "to": "stop", "result": "stopped"} in said
        assert [one["outcome"] for one in said if one["type"] == "run.ended"] == ["stopped"]
