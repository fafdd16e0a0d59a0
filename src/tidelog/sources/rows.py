"""Database rows as a source, over SQLAlchemy's `AsyncSession.stream`: CSV, JSON lines, a JSON array, or an event a row.

A run may be held: by its store, and under `lockstep` by its slowest viewer. A connection must not wait with it. So a task of its
own reads, one batch ahead; if nobody takes the batch within `hold_limit`, it gives the connection back. When the batch is taken
after all, it goes on behind the last row that it has, which takes an order that is unique: a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict

import msgspec

from tidelog.errors import InvalidRequest, SourceError
from tidelog.events import Data

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

log = logging.getLogger("tidelog")

HOLD_LIMIT: Final = 10.0
"""Seconds that a connection may wait for a run that is held."""
YIELD_PER: Final = 500
"""Rows in a batch; two batches are in memory at once."""
PIECE: Final = 32 * 1024
"""Characters of text in one event: even where JSON escapes each, it stays under the `max_event_bytes` of a run."""
MISSING: Final = "tide.rows() needs SQLAlchemy 2.1 or later with asyncio: pip install 'tidelog[sql]'"
HELD: Final = (
    "The rows were not taken for too long, and their order is not unique, so that they cannot go on where they stopped."
)

RowFormat = Literal["csv", "lines", "json", "data"]
SessionFactory = Callable[[], AbstractAsyncContextManager[Any]]
Row = Sequence[Any]


class RowArgs(TypedDict, total=False):
    """The keywords of `rows`."""

    format: RowFormat
    key: Any
    hold_limit: float
    yield_per: int
    header: bool
    name: str


class _Step(NamedTuple):
    """One column of the order, and its place in a row."""

    column: ColumnElement[Any]
    place: int
    descending: bool


def rows(
    session_factory: SessionFactory,
    statement: Any,
    *,
    format: RowFormat = "csv",
    key: Any = None,
    hold_limit: float = HOLD_LIMIT,
    yield_per: int = YIELD_PER,
    header: bool = True,
    name: str = "row",
) -> AsyncGenerator[str | Data, None]:
    """The rows of a select, read in batches of `yield_per` by one connection, which is given back at the end.

    `session_factory` gives an `AsyncSession`, as `async_sessionmaker` does. `format`: `csv` (RFC 4180, `header` first), `lines`
    (one JSON object each), `json` (one array), or `data` (an event named `name` each). Entities give their columns.
    While the run is held for more than `hold_limit` seconds no connection is: the rows then go on behind the last one, in a new
    transaction, if the select is ordered by a key. That is seen where one table is ordered by columns that are not null and
    hold its primary key; else name it by `key`: selected columns, unique together, ascending or `.desc()`. Without a key the
    run fails with `timed_out`. Waiting for a connection in vain fails with `overloaded`.
    Raises `InvalidRequest` for options that make no sense, `ImportError` without SQLAlchemy.
    """
    if format not in _SHAPES or hold_limit <= 0 or yield_per < 1:
        raise InvalidRequest("rows() takes format csv, lines, json or data, hold_limit over 0 and yield_per from 1 on.")
    if not callable(session_factory):
        raise InvalidRequest(
            "rows() takes what makes an AsyncSession, as async_sessionmaker does, not the session itself."
        )
    try:
        query = _Query(statement, key, yield_per)
    except ImportError as error:
        raise ImportError(MISSING) from error
    return _flow(_Reader(session_factory, query, hold_limit), _SHAPES[format](name, header))


async def _flow(reader: _Reader, shape: _Shape) -> AsyncGenerator[str | Data, None]:
    async with contextlib.aclosing(reader.batches()) as batches:
        first = True
        async for batch in batches:
            if first:
                first = False
                for each in _pieces(shape.head(reader.names)):
                    yield each
            for one in shape.body(batch):
                yield one
    for each in _pieces(shape.tail()):
        yield each


class _Query:
    """A statement, and how to go on behind a row of it, if that is possible."""

    def __init__(self, statement: Any, key: Any, yield_per: int) -> None:
        from sqlalchemy import Select

        self.yield_per = yield_per
        self.steps: Sequence[_Step] = ()
        self._statement = statement
        if isinstance(statement, Select):
            self._statement, self.steps = _prepared(statement, key)
        elif key is not None:
            raise InvalidRequest("rows() takes a key only with a select().")

    def behind(self, row: Row | None) -> Any:
        """The statement for the rows behind this one, for all if there is none."""
        return self._statement if row is None else self._statement.where(_beyond(self.steps, row))


class _Reader:
    """Reads in a task of its own, which opens, advances and closes every session."""

    def __init__(self, factory: SessionFactory, query: _Query, hold_limit: float) -> None:
        self.names: Sequence[str] = ()
        """The columns' names, known from the first batch on."""
        self._factory = factory
        self._query = query
        self._limit = hold_limit

    async def batches(self) -> AsyncGenerator[Sequence[Row], None]:
        """Batches of rows; the first may be empty. Raises what the database raises."""
        self._ready: asyncio.Queue[Sequence[Row] | None] = asyncio.Queue(1)
        reading = asyncio.get_running_loop().create_task(self._read_all())
        try:
            while (batch := await self._ready.get()) is not None:
                yield batch
            await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled() and (error := reading.exception()) is not None:
                log.debug("rows: reading ended with an error", exc_info=error)

    async def _read_all(self) -> None:
        from sqlalchemy.exc import TimeoutError as NoConnection

        last: Row | None = None
        try:
            while (last := await self._read(last)) is not None:
                pass
        except NoConnection as error:
            raise SourceError("The database has no connection to spare.", code="overloaded") from error
        finally:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                await self._ready.put(None)

    async def _read(self, last: Row | None) -> Row | None:
        """Read behind `last` to the end (None), or until nobody takes a batch: then the last row that was handed over."""
        held = None
        async with self._open() as database, contextlib.aclosing(self._stream(database, last)) as batches:
            async for batch in batches:
                if not await self._hand_over(batch):
                    held = batch
                    break
        if held is None:
            return None
        await self._ready.put(held)  # the connection is given back: this may last
        if not self._query.steps:
            raise SourceError(HELD, code="timed_out")
        return held[-1]

    def _open(self) -> AbstractAsyncContextManager[Any]:
        made = self._factory()
        if not hasattr(made, "__aenter__"):
            raise InvalidRequest(f"rows() needs an AsyncSession; the factory made {type(made).__name__}.")
        return made

    async def _stream(self, database: Any, last: Row | None) -> AsyncGenerator[Sequence[Row], None]:
        options = {"yield_per": self._query.yield_per}
        result = await database.stream(self._query.behind(last), execution_options=options)
        try:
            self.names = tuple(result.keys())
            some = last is not None
            async for batch in result.partitions(self._query.yield_per):
                some = True
                yield batch
            if not some:
                yield ()
        finally:
            await result.close()

    async def _hand_over(self, batch: Sequence[Row]) -> bool:
        try:
            async with asyncio.timeout(self._limit):
                await self._ready.put(batch)
        except TimeoutError:
            return False
        return True


def _prepared(statement: Select[Any], key: Any) -> tuple[Select[Any], Sequence[_Step]]:
    """The statement over columns instead of entities, ordered by its key, and that key."""
    columns = list(statement.selected_columns)
    if any(each.get("entity") is not None and each["expr"] is each["entity"] for each in statement.column_descriptions):
        statement = statement.with_only_columns(*columns, maintain_column_froms=True)
    order = statement._order_by_clauses
    if key is None:
        steps = [_step(clause, columns) for clause in order]
        known = [step for step in steps if step is not None]
        return statement, known if len(known) == len(steps) and _is_key(statement, known) else ()
    wanted = tuple(key) if isinstance(key, list | tuple) else (key,)
    steps = [_step(getattr(each, "__clause_element__", lambda each=each: each)(), columns) for each in wanted]
    known = [step for step in steps if step is not None]
    if not known or len(known) < len(steps) or not _is_plain(statement):
        raise InvalidRequest(
            "The key of rows() is made of selected columns, of a select without LIMIT, DISTINCT, GROUP BY."
        )
    if not order:
        return statement.order_by(*wanted), known
    if [_step(clause, columns) for clause in order] != steps:
        raise InvalidRequest("The select of rows() is ordered by something else than its key.")
    return statement, known


def _step(clause: Any, columns: Sequence[ColumnElement[Any]]) -> _Step | None:
    """What a clause of ORDER BY means; None if it is no selected column, ascending or descending."""
    from sqlalchemy import ColumnElement
    from sqlalchemy.sql import operators

    modifier = getattr(clause, "modifier", None)
    column = clause.element if modifier in (operators.asc_op, operators.desc_op) else clause
    if not isinstance(column, ColumnElement):
        return None
    for place, each in enumerate(columns):
        if each is column or each.compare(column):
            return _Step(each, place, modifier is operators.desc_op)
    return None


def _is_key(statement: Select[Any], steps: Sequence[_Step]) -> bool:
    """Whether the order is unique and without nulls, as far as the table tells."""
    from sqlalchemy import Table

    if not steps or not _is_plain(statement):
        return False
    table, *others = statement.get_final_froms()
    if others or not isinstance(table, Table) or any(getattr(step.column, "nullable", True) for step in steps):
        return False
    ordered = {step.column.key for step in steps if getattr(step.column, "primary_key", False)}
    return 0 < len(table.primary_key) == len(ordered)


def _is_plain(statement: Select[Any]) -> bool:
    """Whether a condition more takes away rows and nothing else."""
    bounds = (statement._limit_clause, statement._offset_clause, statement._fetch_clause)
    return all(each is None for each in bounds) and not (
        statement._distinct or statement._group_by_clauses or statement._having_criteria
    )


def _beyond(steps: Sequence[_Step], row: Row) -> ColumnElement[bool]:
    """The rows behind this one. `c >= v and (c > v or …)`: the first half is what an index understands."""
    from sqlalchemy import and_, or_

    (column, place, descending), *rest = steps
    value = row[place]
    beyond: ColumnElement[bool] = column < value if descending else column > value
    if not rest:
        return beyond
    return and_(column <= value if descending else column >= value, or_(beyond, _beyond(rest, row)))


class _Shape:
    """How rows are told: what comes first, each batch, what comes last."""

    def __init__(self, name: str, header: bool) -> None:
        self.name = name
        self.header = header
        self.names: Sequence[str] = ()

    def head(self, names: Sequence[str]) -> str:
        """What comes before the rows; called once."""
        self.names = names
        return ""

    def body(self, batch: Sequence[Row]) -> Iterable[str | Data]:
        """What these rows become."""
        raise NotImplementedError

    def tail(self) -> str:
        """What comes behind the rows."""
        return ""

    def objects(self, batch: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """The rows by the names of their columns."""
        return (dict(zip(self.names, row, strict=True)) for row in batch)


class _Csv(_Shape):
    def head(self, names: Sequence[str]) -> str:
        super().head(names)
        return _csv([names]) if self.header else ""

    def body(self, batch: Sequence[Row]) -> Iterable[str | Data]:
        return _pieces(_csv([_cell(value) for value in row] for row in batch))


class _Lines(_Shape):
    def body(self, batch: Sequence[Row]) -> Iterable[str | Data]:
        return _pieces("".join(f"{_json(each)}\n" for each in self.objects(batch)))


class _Json(_Shape):
    def head(self, names: Sequence[str]) -> str:
        super().head(names)
        self._glue = "\n"
        return "["

    def body(self, batch: Sequence[Row]) -> Iterable[str | Data]:
        text = ",\n".join(map(_json, self.objects(batch)))
        if text:
            text, self._glue = self._glue + text, ",\n"
        return _pieces(text)

    def tail(self) -> str:
        return "\n]\n"


class _Data(_Shape):
    def body(self, batch: Sequence[Row]) -> Iterable[str | Data]:
        return (Data(name=self.name, data=msgspec.to_builtins(each, enc_hook=str)) for each in self.objects(batch))


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """What stands in a cell: times in ISO 8601, bytes in base64, truth as in JSON, what has parts as JSON."""
    if value is None or type(value) is str or type(value) is int or type(value) is float:
        return value
    plain = msgspec.to_builtins(value, enc_hook=str)
    return plain if isinstance(plain, str | int | float) and plain is not True and plain is not False else _json(plain)


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _pieces(text: str) -> Iterable[str]:
    return (text[at : at + PIECE] for at in range(0, len(text), PIECE))


_SHAPES: Final[dict[str, type[_Shape]]] = {"csv": _Csv, "lines": _Lines, "json": _Json, "data": _Data}
