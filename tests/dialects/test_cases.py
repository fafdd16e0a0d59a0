"""The shared cases of spec/cases, which the TypeScript client reads, too; and what every dialect of the registry must do."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.parts import ENDED, log_of

from tidelog import events as e
from tidelog import registry
from tidelog.frame import Frame, safe_name, utf8
from tidelog.log import Record
from tidelog.sources.values import Values
from tidelog.transcript import Fold, encode

CASES = Path(__file__).parent.parent.parent / "spec" / "cases"


def read(name: str) -> Any:
    return json.loads((CASES / f"{name}.json").read_text())


LOGS: dict[str, list[Record]] = {
    case["name"]: [Record(n, 0.0, e.encode_json(event)) for n, event in enumerate(case["events"], 1)]
    for case in read("frames")
}


@pytest.mark.parametrize("case", read("chunks"), ids=lambda case: case["name"])
def test_chunks_become_events(case: dict[str, Any]) -> None:
    values = Values()
    found = [event for chunk in case["chunks"] for event in values.feed(_chunk(chunk))]
    assert [json.loads(e.encode(event)) for event in (*found, *values.end())] == case["events"]


@pytest.mark.parametrize("case", read("frames"), ids=lambda case: case["name"])
def test_events_become_frames_and_a_transcript(case: dict[str, Any]) -> None:
    assert set(case["frames"]) == set(registry.DIALECTS)
    log = LOGS[case["name"]]
    for name, wanted in case["frames"].items():
        dialect = registry.dialect(name)("r")
        assert [_told(frame) for record in log for frame in dialect.encode(record)] == wanted
    fold = Fold()
    fold.take(log)
    assert json.loads(encode(fold.result())) == case["transcript"]


@pytest.mark.parametrize(
    "case", read("resume"), ids=lambda case: f"{case['name']} {case['position']} {case['dialect']}"
)
def test_who_comes_back_gets_the_rest(case: dict[str, Any]) -> None:
    dialect, log = registry.dialect(case["dialect"])("r"), LOGS[case["name"]]
    for record in log[: case["position"]]:
        list(dialect.encode(record))
    frames = [*dialect.prelude(), *(frame for record in log[case["position"] :] for frame in dialect.encode(record))]
    assert [_told(frame) for frame in frames] == case["frames"]


@pytest.mark.parametrize("case", read("sse"), ids=lambda case: case["name"])
def test_frames_become_bytes(case: dict[str, Any]) -> None:
    sse = registry.framing("sse")(100)
    sse.encode(Frame(b"the first carries retry"))
    found = case["frame"]
    data, id_ = (found[key].encode() if key in found else None for key in ("data", "id"))
    assert sse.encode(Frame(data, found.get("event"), id_, bare=True)).decode() == case["bytes"]


@pytest.mark.parametrize("name", registry.DIALECTS)
def test_only_the_last_frame_of_a_record_carries_its_id(name: str) -> None:
    for log in LOGS.values():
        dialect = registry.dialect(name)("r")
        for record in log:
            *before, last = [*dialect.encode(record)] or [None]
            assert not [frame for frame in before if frame is None or frame.id is not None]
            assert last is None or last.id == b"r.1.%d" % record.seq


@pytest.mark.parametrize("name", registry.DIALECTS)
def test_only_bare_text_may_hold_line_ends(name: str) -> None:
    """A framing of lines relies on it."""
    raw = e.Data(data={"upstream": msgspec.Raw(b'{\r\n"pretty": [\n1]\n}')})
    for log in (*LOGS.values(), log_of(raw)):
        dialect = registry.dialect(name)("r")
        frames = [frame for record in log for frame in dialect.encode(record)]
        assert not [frame for frame in frames if not frame.bare and {10, 13} & set(frame.data or b"")]


@pytest.mark.parametrize("name", registry.DIALECTS)
@pytest.mark.parametrize("outcome", ["completed", "failed", "stopped", "timed_out", "interrupted"])
def test_no_dialect_makes_a_failure_look_complete(name: str, outcome: e.Outcome) -> None:
    bad = outcome not in ("completed", "stopped")
    ended = e.RunEnded(outcome=outcome, error=e.Error.of("internal") if bad else None, usage=e.TokenUsage(), can=())
    dialect = registry.dialect(name)("r")
    said = b"".join(
        frame.data or b"" for record in log_of(e.TextDelta(text="x"), ended) for frame in dialect.encode(record)
    )
    assert (dialect.broken or b"Something went wrong" in said) == bad


@pytest.mark.parametrize("name", registry.DIALECTS)
def test_what_a_later_version_logs_is_passed_over(name: str) -> None:
    dialect = registry.dialect(name)("r")
    log = [*log_of(), Record(2, 0.0, b'{"type":"later","x":1}'), Record(3, 0.0, e.encode(ENDED))]
    told = [frame for record in log for frame in dialect.encode(record)]
    if name != "native":
        assert not any(b"later" in (frame.data or b"") for frame in told)


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb", "a\0b", "\ud800", "error", "done", "message"])
def test_a_name_cannot_break_a_frame(name: str) -> None:
    dialect = registry.dialect("simple")("r")
    *_, frame = [frame for record in log_of(e.Data(data=1, name=name)) for frame in dialect.encode(record)]
    assert frame.event == "data"
    assert registry.framing("sse")(1).encode(frame).startswith(b"id: r.1.2\nevent: data\n")


def test_safe_names_and_text() -> None:
    assert safe_name("价格", "x") == "价格"
    assert utf8("\ud83d\ude00") == "\U0001f600".encode()
    assert utf8("a\ud83db") == "a\ufffdb".encode()


def _chunk(chunk: Any) -> Any:
    if isinstance(chunk, str):
        return chunk
    if "bytes" in chunk:
        return base64.b64decode(chunk["bytes"])
    return e.decode(json.dumps(chunk["event"]).encode()) if "event" in chunk else chunk["data"]


def _told(frame: Frame) -> dict[str, str]:
    found: Iterable[tuple[str, str | bytes | None]] = (("event", frame.event), ("id", frame.id), ("data", frame.data))
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in found if value is not None}
