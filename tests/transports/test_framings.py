"""Frames become bytes that no text can break."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog import events as e
from tidelog import registry
from tidelog.frame import Envelope, Frame
from tidelog.log import Record
from tidelog.seams import Framing
from tidelog.transports.lines import Bare, Lines
from tidelog.transports.sse import Sse
from tidelog.transports.websocket import Enveloped, Messages, framing_of, messages

HOSTILE = st.text(
    st.one_of(st.sampled_from("\r\n\0 :a\u2028\u2029\x85\x0b\x0c\ufeff\U0001f600"), st.characters(codec="utf-8")),
    max_size=30,
)


def parse(data: str) -> list[dict[str, str]]:
    """The events that a browser dispatches."""
    found, fields = list[dict[str, str]](), dict[str, str]()
    text = data.replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        if not line:
            if "data" in fields:
                found.append(fields)
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in fields:
            value = fields["data"] + "\n" + value
        if name:
            fields[name] = value
    return found


@given(HOSTILE, st.sampled_from([None, "done", "价格"]), st.sampled_from([None, b"run.1.22"]))
def test_one_frame_is_one_event(text: str, event: str | None, id_: bytes | None) -> None:
    sse = Sse(1500)
    [first] = parse(sse.encode(Frame(text.encode(), event, id_, bare=True)).decode())
    assert first["retry"] == "1500"
    wire = sse.encode(Frame(text.encode(), event, id_, bare=True)).decode()
    [found] = parse(wire)
    assert found["data"] == text.replace("\r\n", "\n").replace("\r", "\n")
    assert (found.get("event"), found.get("id")) == (event, id_ and id_.decode())
    assert "retry" not in found
    assert "\r" not in wire
    assert wire.endswith("\n\n")


def test_retry_waits_for_the_first_data() -> None:
    sse = Sse(7)
    assert sse.encode(Frame(None, None, b"r.1.1")) == b"id: r.1.1\n\n"
    assert sse.encode(Frame(b"x", None, b"r.1.2")) == b"id: r.1.2\nretry: 7\ndata: x\n\n"
    assert sse.encode(Frame(b"x", "e")) == b"event: e\ndata: x\n\n"


@pytest.mark.parametrize("envelope", [Envelope(), Envelope(lambda size: b"<%d " % size, b">")])
@pytest.mark.parametrize("framing", [Sse, Lines, Bare])
def test_a_verbatim_record_is_what_the_native_dialect_makes_of_it(framing: type[Framing], envelope: Envelope) -> None:
    """Whether its number and its size are in a table or not, and in whatever epoch."""
    made, native = framing(1), registry.dialect("native")("run")
    assert native.verbatim
    made.encode(Frame(b"the first carries retry"))
    made.begin(b"run", envelope)
    for epoch, seq, text in itertools.product(
        (1, 2), (1, 2047, 2048, 10**6), ("", "你\n\u2028\ud800", "x" * 399, "x" * 900)
    ):
        record = Record(seq, 1.0, e.encode(e.TextDelta(text=text)), epoch)
        [frame] = native.encode(record)
        assert made.verbatim(record) == envelope.around(made.encode(frame))


def test_only_native_is_verbatim() -> None:
    assert [name for name in registry.DIALECTS if registry.dialect(name).verbatim] == ["native"]


def test_a_heartbeat_is_no_event() -> None:
    assert parse(Sse.heartbeat.decode()) == []
    assert Lines.heartbeat.strip() == Bare.heartbeat == b""


@pytest.mark.parametrize("data", [b"{}", json.dumps({"text": "a\nb\u2028"}, ensure_ascii=False).encode()])
def test_lines_and_bare_text(data: bytes) -> None:
    lines, bare = Lines(1), Bare(1)
    assert lines.encode(Frame(data, "named", b"r.1.1")) == data + b"\n"
    assert lines.encode(Frame(None, None, b"r.1.1")) == b""
    assert bare.encode(Frame(data)) == data
    assert bare.encode(Frame(None)) == b""


@given(HOSTILE, st.sampled_from([None, "done", "价格"]), st.sampled_from([None, b"run.1.22"]))
def test_one_frame_is_one_message(text: str, event: str | None, id_: bytes | None) -> None:
    made = Enveloped(1)
    frames = [Frame(text.encode(), event, id_, bare=True), Frame(None, None, b"run.1.1")]
    found = [json.loads(message) for message in messages(b"".join(made.encode(frame) for frame in frames))]
    wanted = {"id": id_ and id_.decode(), "event": event, "data": text}
    assert found == [{name: value for name, value in wanted.items() if value is not None}, {"id": "run.1.1"}]


def test_a_dialect_that_explains_itself_needs_no_envelope() -> None:
    assert framing_of(registry.dialect("native")) is Messages
    assert framing_of(registry.dialect("simple")) is Enveloped
    [message] = messages(Messages(1).encode(Frame(b'{"seq":1}', None, b"r.1.1")))
    assert message == '{"seq":1}'
    [beat] = messages(Enveloped.heartbeat)
    assert json.loads(beat) == {"type": "heartbeat"}
