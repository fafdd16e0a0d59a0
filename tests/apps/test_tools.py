"""The tools: what they compute, what they refuse, and that nothing gets out of them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tidelog import Source
from tidelog.apps.documents import Index, read_folder
from tidelog.apps.tools import Call, Found, Tool, ToolFailed
from tidelog.apps.tools.calculator import calculate, shown
from tidelog.apps.tools.clock import time_in
from tidelog.apps.tools.planner import plan
from tidelog.apps.tools.query import query
from tidelog.apps.tools.running import CALLS, OUTPUT_CHARS, ended, worked
from tidelog.apps.tools.tables import Table, about, sample, tables_of
from tidelog.apps.tools.toolbox import named_tables

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12 * 7", "84"),
        ("2 + 3 * 4 - (1 - 5)", "18"),
        ("2^10", "1024"),
        ("2^3+1", "9"),
        ("-2 ** 2", "-4"),
        ("7 // 2 + 7 % 4", "6"),
        ("1,234.5 × 2", "2469"),
        ("0.1 + 0.2", "0.3"),
        ("10 ÷ 4 =", "2.5"),
        ("max(1,200)", "200"),
        ("sqrt(2)", "1.41421356237"),
        ("round(2.675, 1) + factorial(5)", "122.7"),
        ("2 * pi", "6.28318530718"),
        ("10**299", "1" + "0" * 299),
        ("1e3", "1000"),
    ],
)
def test_the_calculator(expression: str, value: str) -> None:
    assert shown(calculate(expression)) == value


@pytest.mark.parametrize(
    "expression",
    [
        "", "2 +", "((1)", "1 / 0", "10 ** 10 ** 10", "9**9**9**9", "2 ** 1e9", "(-8) ** 0.5", "factorial(1000)", "1e400",
        "__import__('os')", "open(1)", "a", "().__class__", "[1]*9", "lambda: 1", "1 if 1 else 2", "x := 1", "'a' * 9",
        "sqrt", "sqrt(1, 2, 3)", "abs(x=1)", "sqrt(-1)", "1is 2", "0x1for 1", "1" * 301, "(" * 150 + ")" * 150, "1_000", "5 5",
    ],
)  # fmt: skip
def test_what_the_calculator_refuses(expression: str) -> None:
    began = time.monotonic()
    with pytest.raises(ToolFailed):
        calculate(expression)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("place", "zone", "local"),
    [
        ("Asia/Tokyo", "Asia/Tokyo", "2026-07-01 21:00"),
        ("tokyo", "Asia/Tokyo", "2026-07-01 21:00"),
        ("New York", "America/New_York", "2026-07-01 08:00"),
        ("北京", "Asia/Shanghai", "2026-07-01 20:00"),
        ("utc", "UTC", "2026-07-01 12:00"),
    ],
)
def test_the_clock(place: str, zone: str, local: str) -> None:
    found = time_in(place, NOON)
    assert (found["zone"], found["time"], found["weekday"]) == (zone, local, "Wednesday")


def test_the_clock_tells_the_offset() -> None:
    assert time_in("Kolkata", NOON)["utc_offset"] == "+05:30"
    assert time_in("New York", NOON)["utc_offset"] == "-04:00"


@pytest.mark.parametrize("place", ["Atlantis", "../../etc/passwd", "/etc/localtime", "", "x" * 10_000])
def test_the_clock_opens_no_other_file(place: str) -> None:
    with pytest.raises(ToolFailed, match="no time zone"):
        time_in(place)


# Tables


MARKDOWN = """# Shop

## Prices

| City | Price (EUR) | Note |
|---|---:|---|
| Bern | 1,200 | a \\| b |
| Bern | 800 | |
| Basel | 5.5 % | **9** |

```csv
day,visitors
Monday,3
Tuesday,4
```
"""


def chunks_of(folder: Path, text: str) -> Any:
    (folder / "shop.md").write_text(text)
    return Index.build(read_folder(folder)).every()


def test_tables_of_documents(tmp_path: Path) -> None:
    prices, visits = tables_of(chunks_of(tmp_path, MARKDOWN))
    assert prices.title == "Shop > Prices"
    assert prices.columns == ("city", "price_eur", "note")
    assert prices.rows == (("Bern", 1200, "a | b"), ("Bern", 800, None), ("Basel", 5.5, 9))
    assert visits == Table("Shop > Prices", ("day", "visitors"), (("Monday", 3), ("Tuesday", 4)))


def test_a_long_table_is_whole(tmp_path: Path) -> None:
    """It was cut into many chunks; a second one with the same headings stays one of its own."""
    head = "| city | price |\n|---|---|\n"
    rows = "".join(f"| city number {n} of the long list | {n} |\n" for n in range(400))
    found = tables_of(chunks_of(tmp_path, f"# A\n\n{head}{rows}\n## B\n\n{head}| Bern | 1 |\n"))
    assert [len(table.rows) for table in found] == [400, 1]
    assert found[0].rows[-1] == ("city number 399 of the long list", 399)


def test_which_tables_are_meant(tmp_path: Path) -> None:
    every = chunks_of(tmp_path, MARKDOWN)
    assert list(named_tables(every, "prices by city")) == ["t1", "t2"]
    assert named_tables(every, "prices by city")["t1"].columns[0] == "city"
    assert named_tables(every, "planets")["t1"] == sample()
    assert about([sample()], "revenue per region", 5) == [sample()]
    assert about([sample()], "xyz", 5) == []


SHOP = {"t1": Table("Shop", ("city", "price"), (("Bern", 4), ("Bern", 8), ("Basel", 5), ("Basel", None)))}


def test_a_query() -> None:
    found = query(SHOP, 'SELECT city, avg("price") AS mean FROM t1 GROUP BY 1 ORDER BY 1;')
    assert found == (("city", "mean"), [("Basel", 5.0), ("Bern", 6.0)], False)


def test_a_query_gives_a_page() -> None:
    found = query({"t1": Table("", ("n",), tuple((n,) for n in range(60)))}, "SELECT n FROM t1")
    assert (len(found.rows), found.more) == (50, True)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM t1", "Only SELECT"),
        ("INSERT INTO t1 VALUES (1, 2)", "Only SELECT"),
        ("CREATE TABLE x (a)", "Only SELECT"),
        ("ATTACH '/etc/passwd' AS x", "Only SELECT"),
        ("PRAGMA database_list", "Only SELECT"),
        ("VACUUM INTO 'x'", "Only SELECT"),
        ("SELECT load_extension('x')", "Only SELECT"),
        ("BEGIN", "Only SELECT"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELEC 1", "syntax error"),
        ("SELECT x FROM t1", "no such column"),
        ("SELECT 1" + " " * 2000, "longer than"),
        ("SELECT replace(printf('%9999d', 1), ' ', 'twenty more characters')", "too big"),
        ("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n", "Only SELECT"),
        ("", "Only SELECT"),
    ],
)
def test_what_a_query_must_not(sql: str, words: str) -> None:
    with pytest.raises(ToolFailed, match=words):
        query(SHOP, sql)


def test_a_query_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidelog.apps.tools.query.MAX_SECONDS", 0.05)
    many = {"t1": Table("", ("n",), tuple((n,) for n in range(1000)))}
    with pytest.raises(ToolFailed, match="takes longer"):
        query(many, "SELECT count(*) FROM t1 a, t1 b, t1 c, t1 d WHERE a.n + b.n = c.n * d.n")


# The script


@pytest.mark.parametrize(
    ("question", "steps"),
    [
        ("12 * 7", [("calculator", "12 * 7")]),
        ("What is (3 + 4) * 2?", [("calculator", "(3 + 4) * 2")]),
        ("what is sqrt(2) please", [("calculator", "sqrt(2)")]),
        ("12 乘以 7", [("search", "12 乘以 7")]),
        ("Who wrote it on 2024-11-21?", [("search", "Who wrote it on 2024-11-21?")]),
        ("What changed between 3.11 and 3.12?", [("search", "What changed between 3.11 and 3.12?")]),
        ("What time is it in Tokyo?", [("clock", "Tokyo")]),
        ("what is the time in New York and what is 2+2", [("calculator", "2+2"), ("clock", "New York")]),
        ("东京现在几点？", [("clock", "东京")]),
        ("现在几点", [("clock", "UTC")]),
        ("average price by city", [("table", "price city")]),
        ("What is the total revenue per region?", [("table", "revenue region")]),
        ("按地区统计平均销售额", [("table", "销售额 地区")]),
        ("search the lock of the bike", [("search", "the lock of the bike")]),
        ("搜索押金", [("search", "押金")]),
        ("How do I lock the bike?", [("search", "How do I lock the bike?")]),
        ("Send a mail to Ann: the tide is in.", [("send_mail", "Ann")]),
        ("Please send an e-mail to ann@example.org saying that 12 * 7 is 84", [("send_mail", "ann@example.org")]),
        ("给 Ann 发邮件：涨潮了。", [("send_mail", "Ann")]),
        ("How do I send a mail to Ann?", [("search", "How do I send a mail to Ann?")]),
    ],
)
def test_tools_by_the_form_of_a_question(question: str, steps: list[tuple[str, str]]) -> None:
    assert [(step.tool, next(iter(step.input.values()))) for step in plan(question)] == steps


# Running them


async def _give(text: str = "", **_: str) -> Found:
    match text:
        case "broken":
            raise RuntimeError("inside")
        case "stuck":
            await asyncio.Event().wait()
        case "long":
            return Found("x" * 100_000)
    return Found({"passages": [{"n": 1}, {"n": 2}]}, (Source("s1", "one"), Source("s2", "two")))


TOOLS = {"give": Tool("give", "", {"text": "what"}, ("text",), _give)}


def call(number: int, **given: Any) -> Call:
    return Call(f"c{number}", "give", given)


@pytest.mark.anyio
async def test_calls_run_at_once_and_are_told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidelog.apps.tools.running.TOOL_SECONDS", 0.05)
    calls = [
        call(1, text="stuck"), call(2, text="fine"), call(3, text="broken"), call(4), call(5, other="x"),
        Call("c6", "take", {}), Call("c7", "give", None), call(8, text="fine"), call(9, text="long"),
    ]  # fmt: skip
    done = await worked(TOOLS, calls, 3)
    assert [one.said.text[:24] for one in done] == [
        "The tool takes longer th", '{"passages": [{"n": 4}, ', "The tool failed.", "The argument text is mis",
        "There is no argument oth", "There is no tool 'take';", "The arguments are no JSO", '{"passages": [{"n": 6}, ',
        '"' + "x" * 23,
    ]  # fmt: skip
    assert [one.said.failed for one in done] == [True, False, True, True, True, True, True, False, False]
    assert [source.id for one in done for source in one.sources] == ["s4", "s5", "s6", "s7"]
    told = list(ended(done))
    assert [one.call for one in told if hasattr(one, "call")] == [f"c{n}" for n in range(1, 10)]
    assert len(told[-1].output) == OUTPUT_CHARS  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_too_many_calls_are_refused() -> None:
    done = await worked(TOOLS, [call(n, text="fine") for n in range(CALLS + 1)])
    assert [one.error is None for one in done] == [True] * CALLS + [False]
