"""An application that exports, for tests that run it in a process of its own. Its databases lie in the working directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.responses import Response, StreamingResponse

from tidelog import Tidelog

LINE = "0123456789," * 93 + "\n"
CHUNK = LINE * (64 * 1024 // len(LINE))
DROP_AFTER = 3.0


class Tables(DeclarativeBase):
    pass


class Row(Tables):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    value: Mapped[float]


engine = create_async_engine("sqlite+aiosqlite:///rows.db", pool_size=5, max_overflow=0, pool_timeout=5.0)
database = async_sessionmaker(engine)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Tables.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
tide = Tidelog("sqlite:///exports.db", drain_timeout=0)
app.include_router(tide.router)


async def connection() -> AsyncIterator[AsyncSession]:
    async with database() as opened:
        yield opened


Opened = Annotated[AsyncSession, Depends(connection, scope="function")]


def chunks(size: int) -> Iterator[str]:
    """Text of about so many bytes."""
    for _ in range(size // len(CHUNK)):
        yield CHUNK


@app.get("/text.csv")
async def text(size: int) -> Response:
    return tide.export(lambda: chunks(size), drop_after=DROP_AFTER)


@app.post("/rows")
async def fill(count: int, opened: Opened) -> int:
    """So many rows more."""
    first = (await opened.scalar(select(func.count()).select_from(Row))) or 0
    for at in range(first, first + count, 10_000):
        some = range(at, min(at + 10_000, first + count))
        await opened.execute(insert(Row), [{"id": n, "name": f"row number {n}", "value": n / 8} for n in some])
    await opened.commit()
    return count


@app.get("/rows.csv")
async def rows(hold_limit: float = 10.0, whole_bytes: int = 10_000_000) -> Response:
    return tide.export(
        lambda: tide.rows(database, select(Row).order_by(Row.id), hold_limit=hold_limit),
        whole_bytes=whole_bytes, drop_after=DROP_AFTER,
    )  # fmt: skip


@app.get("/plain.csv")
async def plain() -> Response:
    """The same rows without a run."""
    return StreamingResponse(tide.rows(database, select(Row).order_by(Row.id), hold_limit=0.1))


@app.get("/answer")
async def answer(opened: Opened) -> Response:
    """Request work with the database, run work without: the run stays open for as long as its viewer likes."""
    found = await opened.scalar(select(func.count()).select_from(Row))
    return tide.response(_answer(found or 0))


@app.get("/count")
async def count(opened: Opened) -> int:
    """An ordinary endpoint."""
    return (await opened.scalar(select(func.count()).select_from(Row))) or 0


@app.get("/checked-out")
async def checked_out() -> Any:
    return engine.pool.checkedout()  # type: ignore[attr-defined]


async def _answer(found: int) -> AsyncIterator[str]:
    yield f"There are {found} rows. "
    await asyncio.sleep(3600)
