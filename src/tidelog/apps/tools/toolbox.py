"""The tools of the built-in agent over a library of documents: calculator, clock, search and table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from tidelog import Source
from tidelog.apps.documents import Chunk, Hit
from tidelog.apps.library import Library
from tidelog.apps.rag import find
from tidelog.apps.tools import Found, Tool, ToolFailed
from tidelog.apps.tools.calculator import calculate, shown
from tidelog.apps.tools.clock import time_in
from tidelog.apps.tools.query import query
from tidelog.apps.tools.tables import Table, about, sample, tables_of

TABLES_SHOWN: Final = 5
"""Tables that one call may see."""
FIRST_ROWS: Final = 3
"""Rows of each table that are shown where there is no query."""
PASSAGE_CHARS: Final = 2_400
"""Of one passage that was found: as long as the longest chunk."""


def toolbox(library: Library) -> dict[str, Tool]:
    """The tools, by name."""
    tools = (_calculator(), _clock(), _search(library), _table(library))
    return {tool.name: tool for tool in tools}


def passages(hits: Iterable[Hit]) -> list[dict[str, Any]]:
    """What a model is shown of the hits: each with the number by which it is cited, from 1 on."""
    return [
        {"n": n, "title": hit.chunk.title, "place": list(hit.chunk.place), "text": hit.chunk.text[:PASSAGE_CHARS]}
        for n, hit in enumerate(hits, 1)
    ]


def behind(found: Found, cited: int) -> Found:
    """The same with its sources numbered behind `cited` others, which the run told before."""
    if not found.sources or not cited:
        return found
    shown = [{**one, "n": one["n"] + cited} for one in found.value["passages"]]
    sources = tuple(
        Source(id=f"s{n}", title=one.title, url=one.url, heading=one.heading, quote=one.quote, score=one.score)
        for n, one in enumerate(found.sources, cited + 1)
    )
    return Found({**found.value, "passages": shown}, sources)


def _calculator() -> Tool:
    async def work(expression: str) -> Found:
        number = await asyncio.to_thread(calculate, expression)
        return Found({"expression": expression, "value": shown(number)})

    return Tool(
        "calculator",
        "Computes an arithmetic expression exactly. Use it for every computation.",
        {"expression": "For example: (12 + 3) * 7 / 2, 2^10, sqrt(2)"},
        ("expression",),
        work,
    )


def _clock() -> Tool:
    async def work(place: str = "UTC") -> Found:
        return Found(await asyncio.to_thread(time_in, place))

    return Tool(
        "clock",
        "Tells the present date and time in a time zone.",
        {"place": "A time zone such as Asia/Tokyo, or its city. Without it: UTC."},
        (),
        work,
    )


def _search(library: Library) -> Tool:
    async def work(query: str) -> Found:
        found = await asyncio.to_thread(find, await library.index(), query)
        if not found.hits:
            return Found({"passages": [], "note": "Nothing about this was found in the documents."})
        return Found({"passages": passages(found.hits)}, tuple(found.sources))

    return Tool(
        "search",
        "Searches the documents of the user. Cite what you use by its number, like [1].",
        {"query": "What to look for, in the language of the documents."},
        ("query",),
        work,
    )


def _table(library: Library) -> Tool:
    async def work(about: str, sql: str = "") -> Found:
        index = await library.index()
        return await asyncio.to_thread(_queried, index.every(), about, sql)

    return Tool(
        "table",
        "Reads the tables of the documents. Without sql it lists the tables that fit, named t1, t2 and so on, with their "
        "columns and first rows; call it again with the same `about` and a query. Where no table fits there is a sample.",
        {
            "about": "Words of the table's title and columns.",
            "sql": 'One SELECT of SQLite over the tables listed for this `about`: SELECT "a", avg("b") FROM t1 GROUP BY 1',
        },
        ("about",),
        work,
    )


def _queried(chunks: Iterable[Chunk], words: str, sql: str) -> Found:
    tables = named_tables(chunks, words)
    if not sql.strip():
        return Found({"tables": [_listed(name, table) for name, table in tables.items()]})
    found = query(tables, sql)
    value: dict[str, Any] = {"columns": list(found.columns), "rows": [list(row) for row in found.rows]}
    if found.more:
        value["note"] = f"There are more rows than these {len(found.rows)}."
    return Found({**value, "of": [table.title for table in tables.values()]})


def named_tables(chunks: Iterable[Chunk], words: str) -> dict[str, Table]:
    """The tables that these words mean, by the names that a query uses; the sample where there is none."""
    found = about(tables_of(chunks), words, TABLES_SHOWN) or [sample()]
    if not words.strip():
        raise ToolFailed("Say what the table is about.")
    return {f"t{number}": table for number, table in enumerate(found, 1)}


def _listed(name: str, table: Table) -> dict[str, Any]:
    rows = [list(row) for row in table.rows[:FIRST_ROWS]]
    return {
        "name": name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": len(table.rows),
        "first_rows": rows,
    }
