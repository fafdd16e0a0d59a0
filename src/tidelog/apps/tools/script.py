"""The agent without a model: the calls that a script makes for a question, and the sentences that it makes of their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from tidelog.apps.documents import Index
from tidelog.apps.rag import extracted, find
from tidelog.apps.tools import Call, ToolFailed
from tidelog.apps.tools.planner import grouping, plan, sql_for
from tidelog.apps.tools.running import Done
from tidelog.apps.tools.toolbox import named_tables

Lang = Literal["en", "zh"]

SCRIPTED: Final[dict[Lang, str]] = {
    "en": "No language model is attached: a script chose the tools by the form of your question.",
    "zh": "没有接入语言模型：工具由脚本根据问题的形式选择。",
}
_FAILED: Final[dict[Lang, str]] = {"en": "`{tool}` failed: {error}", "zh": "`{tool}` 失败：{error}"}
_TIME: Final[dict[Lang, str]] = {
    "en": "In {zone} it is {time} ({weekday}, UTC{utc_offset}).", "zh": "{zone} 当前时间：{time}（UTC{utc_offset}）。",
}  # fmt: skip
_TABLES: Final[dict[Lang, str]] = {
    "en": "No table answers this. These come close:", "zh": "没有表格能直接回答；相近的表格有：",
}  # fmt: skip


def planned(index: Index, question: str) -> list[Call]:
    """The calls for this question."""
    calls: list[Call] = []
    for number, step in enumerate(plan(question), 1):
        given: dict[str, Any] = dict(step.input)
        if step.tool == "table" and (wanted := grouping(question)) is not None:
            with suppress(ToolFailed):  # without a query the tool lists the tables that there are
                given["sql"] = sql_for(wanted, named_tables(index.every(), given["about"]))
        calls.append(Call(f"c{number}", step.tool, given))
    return calls


def sentences(index: Index, done: Sequence[Done], *, lang: Lang) -> list[str]:
    """The answer, piece by piece; joined, it is Markdown."""
    said = [SCRIPTED[lang]]
    for one in done:
        said.append("\n\n")
        if one.error is not None:
            said.append(_FAILED[lang].format(tool=one.call.name, error=one.error))
        else:
            said += _told(index, one, lang)
    return said


def _told(index: Index, one: Done, lang: Lang) -> Iterator[str]:
    value = one.value
    match one.call.name:
        case "calculator":
            yield f"{value['expression']} = {value['value']}"
        case "clock":
            yield _TIME[lang].format(**value)
        case "search":
            question = str((one.call.input or {})["query"])
            yield from extracted(index, find(index, question), question, lang=lang)
        case "table" if "rows" in value:
            yield f"{value['of'][0]}\n\n"
            yield from _table(value["columns"], value["rows"])
        case "table":
            yield f"{_TABLES[lang]}\n"
            yield from (f"\n- {table['title']}: {', '.join(table['columns'])}" for table in value["tables"])


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield _line(columns) + _line(["---"] * len(columns))
    yield from (_line(row) for row in rows)


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join("" if cell is None else str(cell).replace("|", "\\|") for cell in cells) + " |\n"
