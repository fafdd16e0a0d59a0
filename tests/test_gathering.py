"""Text that gathers before it is a record, on a server that is not calm: fewer records, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.parts import bare_run, launch, legal_events, outcome, records_of, running, turns

from tidelog import events as e
from tidelog import turn as turn_module
from tidelog.errors import TooLarge
from tidelog.granularity import is_delta
from tidelog.head import Producer
from tidelog.limits import Limits
from tidelog.log import Record
from tidelog.run import Run
from tidelog.seams import Store
from tidelog.source import Opened
from tidelog.stores.memory import MemoryStore
from tidelog.transcript import Fold, encode
from tidelog.turn import WIDEST, Turn
from tidelog.writer import GATHERED, SHORT, Writer

pytestmark = pytest.mark.anyio

GATHER = 0.017
"""As it is outside the tests."""


class Busy(Turn):
    """The turn of a loop that has much to do; `pass_` is the time for which text gathers."""

    def __init__(self, gather: float = 1000.0) -> None:
        super().__init__()
        self.gather = gather
        self.due: list[Callable[[], None]] = []

    def later(self, delay: float, call: Callable[[], None]) -> None:
        assert delay == self.gather
        self.due.append(call)

    def pass_(self) -> None:
        """Let the time pass."""
        due, self.due = self.due, []
        for call in due:
            call()


async def make(turn: Turn, limits: Limits = Limits(), **head: Any) -> tuple[Run, MemoryStore]:
    """A run, of which nothing is written but its start."""
    store = MemoryStore()
    return await bare_run(store, limits, turn, **head), store


async def texts(store: Store, run: str = "r") -> list[str]:
    """The texts of its deltas, a record each."""
    found = [e.decode(record.data) for record in await records_of(store, run)]
    return [event.text for event in found if isinstance(event, e.TextDelta | e.ReasoningDelta)]


def say(writer: Writer, *said: str) -> None:
    for text in said:
        writer.accept(e.TextDelta(text=text))


async def test_text_that_comes_soon_after_text_becomes_one_record_with_what_follows() -> None:
    turn = Busy()
    run, store = await make(turn)
    say(run.writer, "a", "b", "c")
    assert await texts(store) == ["a"], "the first goes at once"
    say(run.writer, "d")
    turn.pass_()
    assert await texts(store) == ["a", "bcd"]
    turn.pass_()
    assert await texts(store) == ["a", "bcd"], "nothing gathers"


async def test_on_a_calm_server_each_is_a_record() -> None:
    run, store = await make(turn := Busy(0.0))
    say(run.writer, "a", "b", "c")
    assert await texts(store) == ["a", "b", "c"] and not turn.due


async def test_text_that_comes_slowly_waits_for_nothing() -> None:
    run, store = await make(Busy(1e-9))
    say(run.writer, "a")
    await asyncio.sleep(0.001)
    say(run.writer, "b")
    assert await texts(store) == ["a", "b"]


async def test_other_events_come_behind_the_text_before_them() -> None:
    run, store = await make(Busy())
    say(run.writer, "a", "b", "c")
    run.writer.accept(e.Data(data=1))
    say(run.writer, "d", "e")
    run.writer.accept(e.TextDelta(part="p2", text="f"))
    run.writer.accept(e.ReasoningDelta(text="g"))
    run.writer.accept(e.ReasoningDelta(text="h"))
    run.writer.accept(e.ReasoningDelta(text="i"))
    run.pause()
    found = [e.decode(record.data) for record in (await records_of(store, "r"))[1:]]
    assert found == [
        e.TextDelta(text="a"), e.TextDelta(text="bc"), e.Data(data=1), e.TextDelta(text="d"), e.TextDelta(text="e"),
        e.TextDelta(part="p2", text="f"), e.ReasoningDelta(text="g"), e.ReasoningDelta(text="hi"), e.RunState(state="paused"),
    ]  # fmt: skip


async def test_long_text_is_a_record_and_no_record_is_of_many_texts() -> None:
    run, store = await make(Busy())
    say(run.writer, "a", "b", "x" * (SHORT + 1), *"c" * GATHERED, "d")
    run.writer.accept(e.TextEnded())
    assert await texts(store) == ["a", "b", "x" * (SHORT + 1), "c" * GATHERED, "d"]


async def test_half_a_character_and_the_other_half_are_kept() -> None:
    run, store = await make(turn := Busy())
    say(run.writer, "a", "\ud83d", "\ude00", "\ud800")
    turn.pass_()
    assert await texts(store) == ["a", "\U0001f600\ud800"]


@pytest.mark.parametrize("how", ["let_go", "finish", "leave"])
async def test_who_ends_the_log_stores_what_has_gathered(how: str) -> None:
    run, store = await make(Busy())
    say(run.writer, "a", "b", "c")
    match how:
        case "let_go":
            run.writer.let_go()
        case "finish":
            run.writer.finish("completed", None)
        case _:
            run.writer.leave(None)
    await turns()
    assert await texts(store) == ["a", "bc"]
    assert run.writer.done.done()


async def test_what_had_gathered_of_a_lost_log_is_written_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    run, store = await make(turn := Busy())
    say(run.writer, "a", "b", "c")
    await store.drop("run/r")
    run.writer.accept(e.Data(data=1))
    assert run.writer.lost is not None
    say(run.writer, "d", "e")
    turn.pass_()
    assert run.writer.last == 3, "what was refused, and nothing since"
    assert "is lost to this process" in caplog.text


@pytest.mark.parametrize("kept", ["lockstep", "producer"])
async def test_where_each_delta_counts_none_gathers(kept: str) -> None:
    limits = Limits(lockstep=10) if kept == "lockstep" else Limits()
    head = {"producer": Producer("p", limits)} if kept == "producer" else {}
    run, store = await make(Busy(), limits, **head)
    say(run.writer, "a", "b", "c")
    assert await texts(store) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "limits", [Limits(max_run_bytes=2000), Limits(max_event_bytes=500), Limits(max_run_records=30)]
)
async def test_limits_hold_and_cut_no_sooner(limits: Limits) -> None:
    async def write(turn: Turn) -> str:
        run, store = await make(turn, limits)
        said = [*(f"{number} " for number in range(1000)), "x" * 1000]
        with pytest.raises(TooLarge):
            say(run.writer, *said)
        assert run.writer.bytes <= limits.max_run_bytes and run.writer.last <= limits.max_run_records
        run.writer.finish("failed", None)
        return "".join(await texts(store))

    assert (await write(Busy())).startswith(await write(Busy(0.0)))


async def test_a_source_that_never_waits_gives_way_to_the_loop() -> None:
    turned = 0

    async def source() -> AsyncIterator[str]:
        for _ in range(20_000):
            yield "x"

    async def turn_around() -> None:
        nonlocal turned
        while True:
            await asyncio.sleep(0)
            turned += 1

    run, store = await make(Busy())
    around = asyncio.create_task(turn_around())
    await run.work(lambda: Opened(source()))
    around.cancel()
    assert await outcome(run) == "completed"
    assert "".join(await texts(store)) == "x" * 20_000
    assert turned > 10


async def test_on_a_server_that_has_much_to_do_viewers_see_fewer_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that belongs to it: the load is looked at while runs live, and who asks for each record gets each."""
    monkeypatch.setattr(turn_module, "GATHER", GATHER)
    monkeypatch.setattr(turn_module, "MANY", 0)
    monkeypatch.setattr(turn_module, "_width", lambda busy: WIDEST)
    before, said = list[str](), [f"{number} " for number in range(200)]
    async with running(MemoryStore()) as runner:

        async def source() -> AsyncIterator[str]:
            while not runner.turn.gather:
                before.append("before ")
                yield before[-1]
                await asyncio.sleep(0.001)
            for text in said:
                yield text
                await asyncio.sleep(0.001)

        run = await launch(runner, source)
        assert await outcome(run) == "completed"
        assert "".join(await texts(runner.store, run.id)) == "".join([*before, *said])
        records = await records_of(runner.store, run.id)
        deltas = [record for record in records if is_delta(record) and b"before" not in record.data]
        assert len(deltas) < len(said) / 2
    assert runner.turn.gather == 0.0


class Step(str):
    """The time passes for which text gathers."""


STEPS = st.lists(
    st.one_of(
        st.text(max_size=4),
        st.just("x" * (SHORT + 1)),
        st.builds(lambda text: e.ReasoningDelta(text=text), st.text(max_size=3)),
        st.builds(
            lambda part, text: e.TextDelta(part=part, text=text), st.sampled_from(["p1", "p9"]), st.text(max_size=3)
        ),
        st.builds(lambda data: e.Data(data=data), st.integers(0, 9)),
        st.just(Step()),
    ),
    max_size=60,
)


@settings(max_examples=count(60, 2000), deadline=None)
@given(STEPS)
def test_whatever_is_written_is_the_same_in_fewer_records(steps: Sequence[Any]) -> None:
    async def write(turn: Busy) -> list[Record]:
        async def source() -> AsyncIterator[Any]:
            for step in steps:
                if isinstance(step, Step):
                    turn.pass_()
                else:
                    yield step

        run, store = await make(turn)
        await run.work(lambda: Opened(source()))
        assert await outcome(run) == "completed"
        return await records_of(store, "r")

    async def both() -> None:
        gathered, apart = await write(Busy()), await write(Busy(0.0))
        legal_events(gathered)
        assert folded(gathered) == folded(apart)
        assert len(gathered) <= len(apart)

    asyncio.run(both())


def folded(log: Sequence[Record]) -> bytes:
    """What the log tells, wherever its records begin and end."""
    fold = Fold()
    fold.take(log)
    return encode(msgspec.structs.replace(fold.result(), last_seq=0))
