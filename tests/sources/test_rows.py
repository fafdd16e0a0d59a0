"""`tide.rows` against real databases: what it says of rows, and when it holds a connection."""

from __future__ import annotations

import asyncio
import csv
import datetime
import decimal
import enum
import io
import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import (
    LargeBinary,
    Select,
    create_engine,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, sessionmaker
from tests.sources.postgres import postgres

from tidelog.errors import InvalidRequest, SourceError
from tidelog.events import Data
from tidelog.sources.rows import PIECE, rows

pytestmark = pytest.mark.anyio

PATIENCE = 10.0
COUNT = 100


class Tables(DeclarativeBase):
    pass


class Item(Tables):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    group: Mapped[int] = mapped_column("team")
    size: Mapped[int | None]


class Note(Tables):
    __tablename__ = "notes"
    item: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Colour(enum.Enum):
    RED = "red"


class Odd(Tables):
    __tablename__ = "odd"
    id: Mapped[int] = mapped_column(primary_key=True)
    when: Mapped[datetime.datetime]
    price: Mapped[decimal.Decimal]
    key: Mapped[uuid.UUID]
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    yes: Mapped[bool]
    colour: Mapped[Colour]
    ratio: Mapped[float]


ODD = {
    "id": 1, "when": datetime.datetime(2026, 1, 2, 3, 4, 5), "price": decimal.Decimal("1.50"), "key": uuid.UUID(int=7),
    "blob": b"\x00\xff", "yes": True, "colour": Colour.RED, "ratio": 0.25,
}  # fmt: skip


class Database(NamedTuple):
    engine: AsyncEngine
    factory: async_sessionmaker[AsyncSession]

    @property
    def checked_out(self) -> int:
        return int(self.engine.pool.checkedout())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path}/rows.db"
    if request.param == "postgres":
        url = request.getfixturevalue("cluster")
    async for each in opened(url):
        yield each


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    async for each in opened(f"sqlite+aiosqlite:///{tmp_path}/rows.db"):
        yield each


async def opened(url: str) -> AsyncIterator[Database]:
    engine = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=0.1)
    async with engine.begin() as connection:
        await connection.run_sync(Tables.metadata.drop_all)
        await connection.run_sync(Tables.metadata.create_all)
        await connection.execute(insert(Item), [_item(n) for n in range(COUNT)])
        await connection.execute(
            insert(Note), [{"item": n // 3, "number": n % 3, "text": f"note {n}"} for n in range(COUNT)]
        )
    try:
        yield Database(engine, async_sessionmaker(engine))
    finally:
        await engine.dispose()


def _item(n: int) -> dict[str, Any]:
    return {"id": n, "name": f"item {n}", "team": n % 7, "size": n if n % 2 else None}


async def text_of(source: AsyncIterator[str | Data]) -> str:
    pieces = [each async for each in source]
    assert all(isinstance(each, str) and 0 < len(each) <= PIECE for each in pieces)
    return "".join(map(str, pieces))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - a pool rings no bell
            await asyncio.sleep(0.005)


class TestForms:
    @pytest.mark.parametrize("yield_per", [1, 7, 500])
    async def test_csv(self, database: Database, yield_per: int) -> None:
        found = await text_of(rows(database.factory, select(Item).order_by(Item.id), yield_per=yield_per))
        wanted = [[str(n), f"item {n}", str(n % 7), str(n) if n % 2 else ""] for n in range(COUNT)]
        assert list(csv.reader(io.StringIO(found, newline=""))) == [["id", "name", "team", "size"], *wanted]
        assert found.count("\r\n") == COUNT + 1
        assert database.checked_out == 0

    async def test_csv_of_what_needs_quotes(self, database: Database) -> None:
        awkward = ['"', "a,b", "two\nlines", "", "grün 你好"]
        statement = union_all(
            *(select(literal(n).label("n"), literal(each).label("x")) for n, each in enumerate(awkward))
        )
        found = await text_of(rows(database.factory, statement.order_by("n"), header=False))
        assert [row[1] for row in csv.reader(io.StringIO(found, newline=""))] == awkward

    async def test_json_lines(self, database: Database) -> None:
        found = await text_of(rows(database.factory, select(Item.id, Item.name).order_by(Item.id), format="lines"))
        assert found.endswith("\n")
        assert [json.loads(line) for line in found.splitlines()] == [
            {"id": n, "name": f"item {n}"} for n in range(COUNT)
        ]

    @pytest.mark.parametrize("count", [0, 1, 3, COUNT])
    async def test_a_json_array(self, database: Database, count: int) -> None:
        statement = select(Item.id).where(Item.id < count).order_by(Item.id)
        found = await text_of(rows(database.factory, statement, format="json", yield_per=2))
        assert json.loads(found) == [{"id": n} for n in range(count)]

    async def test_an_event_a_row(self, database: Database) -> None:
        statement = select(Item.id, Item.size).order_by(Item.id).limit(2)
        found = [each async for each in rows(database.factory, statement, format="data", name="item")]
        assert found == [Data(name="item", data={"id": n, "size": n or None}) for n in range(2)]

    async def test_no_rows(self, database: Database) -> None:
        none = select(Item.id, Item.name).where(Item.id < 0)
        assert await text_of(rows(database.factory, none)) == "id,name\r\n"
        assert await text_of(rows(database.factory, none, header=False)) == ""
        assert await text_of(rows(database.factory, none, format="lines")) == ""

    async def test_types_that_json_does_not_have(self, database: Database) -> None:
        async with database.engine.begin() as connection:
            await connection.execute(insert(Odd), [ODD])
        wanted = {
            "id": 1, "when": "2026-01-02T03:04:05", "key": str(ODD["key"]), "blob": "AP8=", "yes": True,
            "colour": "red", "ratio": 0.25,
        }  # fmt: skip
        (line,) = (await text_of(rows(database.factory, select(Odd), format="lines"))).splitlines()
        found = json.loads(line)
        assert decimal.Decimal(found.pop("price")) == decimal.Decimal("1.5")
        assert found == wanted
        (event,) = [each async for each in rows(database.factory, select(Odd), format="data")]
        assert isinstance(event, Data)
        assert event.data == json.loads(line)
        names, cells = csv.reader(io.StringIO(await text_of(rows(database.factory, select(Odd))), newline=""))
        told = dict(zip(names, cells, strict=True))
        del told["price"]
        assert told == {**wanted, "id": "1", "yes": "true", "ratio": "0.25"}

    async def test_two_columns_of_one_name(self, database: Database) -> None:
        other = aliased(Item)
        statement = select(Item.id, other.id).join(other, other.id == Item.id + 1).order_by(Item.id).limit(1)
        (line,) = (await text_of(rows(database.factory, statement, format="lines"))).splitlines()
        assert sorted(json.loads(line).values()) == [0, 1]

    async def test_a_wide_cell_is_cut_in_pieces(self, database: Database) -> None:
        wide = "x" * (3 * PIECE)
        assert await text_of(rows(database.factory, select(literal(wide)), header=False)) == wide + "\r\n"

    async def test_plain_sql(self, database: Database) -> None:
        found = await text_of(
            rows(database.factory, text("SELECT id FROM items WHERE id < 3 ORDER BY id"), yield_per=2)
        )
        assert found == "id\r\n0\r\n1\r\n2\r\n"


class TestConnections:
    async def test_none_before_the_first_step_one_while_rows_flow_none_after(self, database: Database) -> None:
        source = rows(database.factory, select(Item).order_by(Item.id), yield_per=10)
        assert database.checked_out == 0
        async with aclosing(source):
            await anext(source)
            assert database.checked_out == 1
            async for _ in source:
                assert database.checked_out <= 1
        assert database.checked_out == 0

    async def test_none_once_it_is_closed(self, database: Database) -> None:
        source = rows(database.factory, select(Item), yield_per=1)
        await anext(source)
        await source.aclose()
        assert database.checked_out == 0
        assert await _still_serves(database)

    async def test_none_once_its_task_is_cancelled(self, database: Database) -> None:
        """In the middle of a query, as a stop does it."""
        flowing = asyncio.Event()

        async def read() -> None:
            async with aclosing(rows(database.factory, _endless(), yield_per=1)) as source:
                async for _ in source:
                    flowing.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(flowing.wait(), PATIENCE)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert database.checked_out == 0
        assert await _still_serves(database)

    async def test_none_once_a_query_that_says_nothing_is_cancelled(self, cluster: str) -> None:
        """SQLite has no such: its thread ends with the query."""
        async for database in opened(cluster):
            source = rows(database.factory, text("SELECT pg_sleep(600)"))
            task = asyncio.ensure_future(anext(source))
            await until(lambda: database.checked_out == 1)  # noqa: B023
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            assert task.cancelled()
            assert database.checked_out == 0
            assert await _still_serves(database)

    async def test_an_error_of_the_database_is_raised(self, database: Database) -> None:
        with pytest.raises(DBAPIError):
            await text_of(rows(database.factory, text("SELECT nothing FROM nowhere")))
        assert database.checked_out == 0

    async def test_no_connection_to_spare(self, database: Database) -> None:
        async with database.engine.connect(), database.engine.connect():
            with pytest.raises(SourceError) as caught:
                await text_of(rows(database.factory, select(Item)))
        assert caught.value.code == "overloaded"
        assert caught.value.retryable


class TestHeld:
    """Nobody takes the rows for longer than `hold_limit`."""

    async def held(self, database: Database, statement: Any, **options: Any) -> list[str]:
        """All ids, with a pause behind the first row in which no connection is held, and what others do in it."""
        source = rows(database.factory, statement, format="lines", yield_per=2, hold_limit=0.02, **options)
        async with aclosing(source):
            found = [await anext(source)]
            assert database.checked_out == 1
            await until(lambda: database.checked_out == 0)
            await self.meanwhile(database, json.loads(str(found[0]).splitlines()[0]).get("id", -1))
            found += [each async for each in source]
        return [line for each in found for line in str(each).splitlines()]

    async def meanwhile(self, database: Database, told: int) -> None:
        """A row that was told is deleted: whoever counts rows would miss another for it."""
        async with database.engine.begin() as connection:
            await connection.execute(delete(Item).where(Item.id == told))

    @pytest.mark.parametrize(
        ("statement", "order"),
        [
            (select(Item).order_by(Item.id), [(n,) for n in range(COUNT)]),
            (select(Item.name, Item.id).order_by(Item.id.asc()), [(n,) for n in range(COUNT)]),
            (select(Item.__table__).order_by(Item.__table__.c.id.desc()), [(n,) for n in reversed(range(COUNT))]),
            (
                select(Item).order_by(Item.group.desc(), Item.id),
                sorted(((n % 7, n) for n in range(COUNT)), key=lambda each: (-each[0], each[1])),
            ),
            (select(Note).where(Note.item > 2).order_by(Note.item, Note.number.desc()), None),
        ],
        ids=["entity", "columns", "descending", "mixed", "two-columns"],
    )
    async def test_goes_on_behind_the_last_row(
        self, database: Database, statement: Select[Any], order: list[tuple[int, ...]] | None
    ) -> None:
        wanted = [
            json.loads(line) for line in (await text_of(rows(database.factory, statement, format="lines"))).splitlines()
        ]
        assert len(wanted) > 80
        assert order is None or [each["id"] for each in wanted] == [each[-1] for each in order]
        found = [json.loads(line) for line in await self.held(database, statement)]
        assert found == wanted

    async def test_again_and_again(self, sqlite: Database) -> None:
        source = rows(sqlite.factory, select(Item.id).order_by(Item.id), yield_per=10, hold_limit=0.005, header=False)
        found = []
        async for each in source:
            found.append(str(each))
            if len(found) < COUNT // 10 - 2:
                await until(lambda: sqlite.checked_out == 0)
        assert "".join(found).split() == [str(n) for n in range(COUNT)]

    @pytest.mark.parametrize(
        "statement",
        [
            select(Item),
            select(Item).order_by(Item.name),
            select(Item).order_by(Item.size, Item.id),
            select(Item.name).order_by(Item.id),
            select(Item).order_by(Item.id.desc().nulls_last()),
            select(Item).order_by(Item.id).limit(50),
            select(Item).order_by(Item.id).offset(1),
            select(Item.id).distinct().order_by(Item.id),
            select(Item.id, func.count()).group_by(Item.id).order_by(Item.id),
            select(Item).join(Note, Note.item == Item.id).order_by(Item.id),
            select(Note).order_by(Note.item),
            select(Item.group.label("id"), Item.name).order_by("id"),
            text("SELECT id FROM items ORDER BY id"),
        ],
        ids=str,
    )
    async def test_without_a_key_it_fails(self, sqlite: Database, statement: Any) -> None:
        """It does not guess: rows that are lost or doubled would not show."""
        with pytest.raises(SourceError, match="order is not unique") as caught:
            await self.held(sqlite, statement)
        assert caught.value.code == "timed_out"
        assert sqlite.checked_out == 0

    async def test_without_a_key_and_never_held_it_is_fine(self, database: Database) -> None:
        assert len(await text_of(rows(database.factory, select(Item), hold_limit=PATIENCE))) > COUNT

    async def test_a_key_that_is_named(self, database: Database) -> None:
        joined = select(Item.name, Note.item, Note.number).join(Note, Note.item == Item.id).where(Item.id > 0)
        found = await self.held(database, joined, key=(Note.item, Note.number.desc()))
        assert [(json.loads(line)["item"], json.loads(line)["number"]) for line in found] == sorted(
            ((n // 3, n % 3) for n in range(3, COUNT)), key=lambda each: (each[0], -each[1])
        )

    @pytest.mark.parametrize(
        ("statement", "key"),
        [
            (select(Item.name), Item.id),
            (select(Item).order_by(Item.name), Item.id),
            (select(Item).limit(3), Item.id),
            (select(Item), "id"),
            (select(Item), ()),
            (text("SELECT id FROM items"), Item.id),
        ],
    )
    async def test_a_key_that_is_none(self, sqlite: Database, statement: Any, key: Any) -> None:
        with pytest.raises(InvalidRequest):
            rows(sqlite.factory, statement, key=key)


class TestRefusals:
    async def test_a_factory_of_blocking_sessions(self, tmp_path: Path) -> None:
        engine = create_engine(f"sqlite:///{tmp_path}/rows.db")
        with pytest.raises(InvalidRequest, match="AsyncSession"):
            await text_of(rows(sessionmaker(engine), select(Item)))  # type: ignore[arg-type]
        engine.dispose()

    async def test_a_session_instead_of_a_factory(self, sqlite: Database) -> None:
        async with sqlite.factory() as one:
            with pytest.raises(InvalidRequest, match="async_sessionmaker"):
                rows(one, select(Item))  # type: ignore[arg-type]

    async def test_without_sqlalchemy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)
        with pytest.raises(ImportError, match=r"tidelog\[sql\]"):
            rows(AsyncSession, "SELECT 1")

    @pytest.mark.parametrize("wrong", [{"format": "xml"}, {"hold_limit": 0}, {"yield_per": 0}])
    async def test_options_that_make_no_sense(self, sqlite: Database, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest):
            rows(sqlite.factory, select(Item), **wrong)


def _endless() -> Any:
    """A million rows, which nobody wants."""
    return text(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000) SELECT x FROM n"
    )  # fmt: skip


async def _still_serves(database: Database) -> bool:
    async with database.factory() as one:
        return await one.scalar(select(func.count()).select_from(Item)) == COUNT
