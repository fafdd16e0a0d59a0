"""Chooses tools by the form of a question: what the agent does where no model is attached. A script, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from tidelog.apps.tools import ToolFailed
from tidelog.apps.tools.calculator import NAMES, calculate
from tidelog.apps.tools.tables import Table

MAX_CALLS: Final = 4

_NUMBER: Final = r"\d[\d,]*(?:\.\d+)?"
_ARITHMETIC: Final = re.compile(rf"(?:\b(?:{'|'.join(NAMES)})\s*\(|{_NUMBER}|[-+*/×÷^%()（）.,\s]|\*\*)+")
_DATE: Final = re.compile(r"\b\d{4}-\d\d-\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b")
_SUM: Final = re.compile(
    rf"{_NUMBER}\s*\)*\s*[-+*/×÷^%]\s*[-(]*\s*{_NUMBER}|\b(?:{'|'.join(NAMES[:-2])})\s*\(\s*[-\d.]"
)
_TIME: Final = (
    re.compile(r"\b(?:time|date)\b[^?.!,;]*?\b(?:in|at)\s+([A-Za-z][A-Za-z/_]*(?:[ -][A-Z][a-z]+)*)"),
    re.compile(r"([\u4e00-\u9fff]{2,6}?)(?:时间)?(?:现在|此刻|目前)?(?:是)?(?:几点|什么时间|什么时候了)"),
)
_NOW: Final = re.compile(r"\bwhat(?:'s| is)? (?:the )?(?:time|date)\b|(?:现在|此刻)?几点|今天几号", re.IGNORECASE)
_AGGREGATES: Final = {
    "average": "avg", "mean": "avg", "sum": "sum", "total": "sum", "count": "count", "number": "count", "minimum": "min",
    "lowest": "min", "smallest": "min", "maximum": "max", "highest": "max", "largest": "max",
    "平均": "avg", "总": "sum", "合计": "sum", "数量": "count", "最低": "min", "最小": "min", "最高": "max", "最大": "max",
}  # fmt: skip
_GROUPED: Final = (
    re.compile(r"\b(?P<how>average|mean|sum|total|count|number|minimum|lowest|smallest|maximum|highest|largest)\b"
               r"(?: of)?(?: the)? (?P<what>[\w ]+?) (?:by|per|for each|in each) (?P<by>[\w ]+)", re.IGNORECASE),
    re.compile(r"(?:按|各个?|每个?)(?P<by>[^\W\d_]{1,8}?)(?:统计|计算|求|看)?的?(?P<how>平均|总|合计|数量|最低|最小|最高|最大)(?P<what>\w{0,12})"),
)  # fmt: skip
_SEARCH: Final = re.compile(
    r"(?:^|[,;.!?]\s*|\band\s+)(?:please\s+)?(?:search|find|look up)\s+(?:the documents\s+)?(?:for\s+)?(.+?)\s*[?.!]*$"
    r"|(?:搜索|查找|查一下|检索)(?:一下|文档中)?(.+?)[。？！]*$",
    re.IGNORECASE,
)


_MAIL: Final = (
    re.compile(
        r"\bsend\s+(?:an?\s+)?(?:e-?mail|mail|letter|message)\s+to\s+(?P<to>[^:,\n]{1,80}?)"
        r"\s*(?:[:,]|\bsaying(?:\s+that)?\b)\s*(?P<text>\S.*)", re.IGNORECASE | re.DOTALL,
    ),
    re.compile(
        r"[给向]\s*(?P<to>[^：:，,\n]{1,40}?)\s*(?:发送|发|写)一?封?(?:电子)?(?:邮件|信)\s*[：:，,]\s*(?P<text>\S.*)", re.DOTALL
    ),
)  # fmt: skip


class Step(NamedTuple):
    """A tool to call, and with what."""

    tool: str
    input: dict[str, str]


class Grouping(NamedTuple):
    """What is to be computed of a table, in the words of the question. `function` is SQL's."""

    function: str
    what: str
    by: str


def plan(question: str) -> list[Step]:
    """The tools that a question asks for, by its form; a search for the question where it has none of the known ones.

    A mail stands alone: what it says is nobody's question.
    """
    for pattern in _MAIL:
        if found := pattern.search(question):
            return [Step("send_mail", {"to": found["to"].strip(), "text": found["text"].strip()})]
    return list(_known(question))[:MAX_CALLS] or [Step("search", {"query": question})]


def grouping(question: str) -> Grouping | None:
    """What the question asks of a table, if it does: "the average price by city"."""
    for pattern in _GROUPED:
        if found := pattern.search(question):
            return Grouping(_AGGREGATES[found["how"].lower()], found["what"].strip(), found["by"].strip())
    return None


def sql_for(grouping: Grouping, tables: dict[str, Table]) -> str:
    """The query over the first of these tables that has both columns. Raises `ToolFailed` where none has."""
    for name, table in tables.items():
        what, by = _column(table, grouping.what), _column(table, grouping.by)
        if by is not None and grouping.function == "count":
            return f'SELECT "{by}", count(*) AS "count" FROM {name} GROUP BY 1 ORDER BY 1'
        if what is not None and by is not None:
            value = f'round({grouping.function}("{what}"), 2)'
            return f'SELECT "{by}", {value} AS "{grouping.function}_{what}" FROM {name} GROUP BY 1 ORDER BY 1'
    columns = "; ".join(f"{table.title}: {', '.join(table.columns)}" for table in tables.values())
    raise ToolFailed(f"No table has columns for {grouping.what!r} and {grouping.by!r}. There are {columns}.")


def _known(question: str) -> Iterator[Step]:
    yield from (Step("calculator", {"expression": found}) for found in _expressions(question))
    yield from _times(question)
    if (grouped := grouping(question)) is not None:
        yield Step("table", {"about": f"{grouped.what} {grouped.by}"})
    if found := _SEARCH.search(question):
        yield Step("search", {"query": (found[1] or found[2]).strip()})


def _expressions(question: str) -> Iterator[str]:
    for found in _ARITHMETIC.finditer(_DATE.sub(" ; ", question)):
        text = found[0].strip(" .,\n\t")
        if _SUM.search(text):
            try:
                calculate(text)
            except ToolFailed as failed:
                if "divides" not in str(failed):
                    continue
            yield text


def _times(question: str) -> Iterator[Step]:
    places = [found[1] for pattern in _TIME for found in pattern.finditer(question)]
    for place in places:
        bare = re.sub(r"^(?:现在|此刻|请问|今天)|(?:现在|此刻)$", "", place)
        if bare:
            yield Step("clock", {"place": bare})
            return
    if _NOW.search(question):
        yield Step("clock", {"place": "UTC"})


def _column(table: Table, words: str) -> str | None:
    """The column that these words mean: by its whole name, else by a part of it."""
    wanted = re.sub(r"\W+", "_", words.lower()).strip("_")
    if not wanted:
        return None
    single = wanted.removesuffix("s")
    exact = [column for column in table.columns if column.removesuffix("s") == single]
    parts = [column for column in table.columns if single in column or column.removesuffix("s") in wanted]
    return next(iter(exact + parts), None)
